package kapa

import (
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
)

func TestEvaluatorDeadman(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Tags, a.Deadman = nil, 2*minute
	s.create(a)
	s.run(10*time.Minute, nil)
	s.expect() // nobody is known
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10); s.send("web2", "cpu_used", 10) })
	s.run(4*time.Minute, func() { s.send("web2", "cpu_used", 10) })
	const dead = "[*] cpu_used is CRITICAL value:none for 2m from web1"
	s.expect(dead)
	// A restart is no silence of web2, and web1 is not found again.
	s.kill()
	s.now = s.now.Add(time.Hour)
	s.start()
	s.run(time.Minute, nil)
	s.expect(dead)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10); s.send("web2", "cpu_used", 10) })
	s.expect(dead, "[*] cpu_used is OK value:10")
	// What a relay removed is not missed.
	s.records = append(s.records, journal.Record{Seq: uint64(len(s.records) + 1), Relay: &journal.RelayEvent{Relay: "web1", Kind: journal.RelayRemoved, Collector: "c"}})
	s.run(10*time.Minute, func() { s.send("web2", "cpu_used", 10) })
	s.expect(dead, "[*] cpu_used is OK value:10")
}

func TestEvaluatorUpdate(t *testing.T) {
	s := newSim(t)
	id := s.create(quick())
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	v, err := s.a.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	v.Alert.Level = Warn
	if _, err := s.a.Update(v.Alert); err != nil {
		t.Fatal(err)
	}
	s.run(time.Minute, func() { s.send("web1", "cpu_used", 90) })
	s.expect("[web1] cpu_used is CRITICAL value:90", "[web1] cpu_used is WARNING value:90")
	if m := s.posts()[1]; m.PreviousLevel != "CRITICAL" {
		t.Errorf("%+v", m)
	}
}

// Another metric or host is another alert to who is told: it begins at OK, over a kill too.
func TestEvaluatorRenamed(t *testing.T) {
	for _, killed := range []bool{false, true} {
		s := newSim(t)
		id := s.create(quick())
		send := func() { s.send("web1", "cpu_used", 90); s.send("web1", "ram", 90); s.send("web2", "ram", 10) }
		s.run(2*time.Minute, send)
		change := func(host, metric string) {
			a := quick()
			a.ID, a.Metric, a.Tags = id, metric, map[string]string{"host": host}
			if _, err := s.a.Update(a); err != nil {
				t.Fatal(err)
			}
			if killed {
				s.kill()
				s.start()
			}
			s.run(2*time.Minute, send)
		}
		change("web1", "ram")
		s.expect("[web1] cpu_used is CRITICAL value:90", "[web1] ram is CRITICAL value:90")
		change("web2", "ram")
		s.expect("[web1] cpu_used is CRITICAL value:90", "[web1] ram is CRITICAL value:90")
	}
}

// A deadman does not miss what other tags counted.
func TestEvaluatorDeadmanOfOtherTags(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Tags, a.Deadman = map[string]string{"host": "web1", "service": "old"}, minute
	a.ID = s.create(a)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10, "service:old") })
	a.Tags = map[string]string{"host": "web1", "service": "new"}
	if _, err := s.a.Update(a); err != nil {
		t.Fatal(err)
	}
	s.run(5*time.Minute, func() { s.send("web2", "cpu_used", 10) })
	s.expect()
}
