package kapa

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func TestEvaluatorDeadman(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Tags, a.Deadman, a.By = nil, 2*minute, []string{}
	s.create(a)
	s.run(10*time.Minute, nil)
	s.expect() // no host is known yet
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10); s.send("web2", "cpu_used", 10) })
	s.run(4*time.Minute, func() { s.send("web2", "cpu_used", 10) })
	const dead = "[*] cpu_used is CRITICAL value:none for 2m from web1"
	s.expect(dead)
	// A restart does not make web2 silent, and web1 is not reported again.
	s.kill()
	s.now = s.now.Add(time.Hour)
	s.start()
	s.run(time.Minute, nil)
	s.expect(dead)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10); s.send("web2", "cpu_used", 10) })
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

// An alert with another metric or host is another alert for its receiver, so it begins at OK. This
// also holds if the process is killed.
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

// A deadman does not miss hosts that it only knew by its former tags.
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

// A deadman of a release without groups continues as a deadman by host. The alert that it posted
// over all hosts ends under the name with which it was posted. A silent host is posted again under
// its own name.
func TestDeadmanOfBefore(t *testing.T) {
	s := newSim(t)
	for id, stored := range map[string][2]string{
		"all": {`{"id":"all","tags":{},"metric":"cpu_used","level":"crit","operator":"gt","threshold":80,"duration":"1m0s","post":"http://127.0.0.1/","every":"30s","deadman":"2m"}`,
			`{"evaluated":1795435200000000000,"silent":["web1"],"level":"crit","since":1795435200000000000,"announced":"crit","began":1795435140000000000,"mean":10,` +
				`"seen":{"web1\u0000c":1795435070000000000,"web2\u0000c":1795435199000000000}}`},
		"one": {`{"id":"one","tags":{"host":"web1"},"metric":"cpu_used","level":"warn","operator":"gt","threshold":80,"duration":"1m0s","post":"http://127.0.0.1/","every":"30s","deadman":"2m"}`,
			`{"evaluated":1795435200000000000,"silent":["web1"],"level":"warn","since":1795435200000000000,"announced":"warn","began":1795435140000000000,"mean":10,` +
				`"seen":{"web1\u0000c":1795435070000000000}}`},
	} {
		if err := s.db.Update(func(tx *bbolt.Tx) error {
			if err := bucket(tx, stateBucket).Put([]byte(id), []byte(stored[1])); err != nil {
				return err
			}
			return bucket(tx, definitionBucket).Put([]byte(id), []byte(stored[0]))
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.now = time.Unix(0, 1795435200000000000).Add(5 * time.Second)
	for range 2 { // the second start finds what the first has changed
		s.kill()
		s.start()
	}
	v, err := s.a.Get("all")
	if err != nil || len(v.By) != 1 || v.By[0] != "host" {
		t.Errorf("%+v, %v", v, err)
	}
	s.run(3*time.Minute, func() { s.send("web2", "cpu_used", 10) })
	const over, again = "[*] cpu_used is OK value:none, each host is told by itself from now on", "[web1] cpu_used is CRITICAL value:none for 2m from web1"
	s.expect(over, again)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10); s.send("web2", "cpu_used", 10) })
	s.expect(over, again, "[web1] cpu_used is OK value:10", "[web1] cpu_used is OK value:10")
	if posts := s.posts(); posts[0].PreviousLevel != "CRITICAL" || posts[3].PreviousLevel != "WARNING" || posts[3].Data.Series[0].Tags != nil {
		t.Errorf("%+v", posts)
	}
}

// An alert with another by is another alert for its receiver. Groups that stay the same continue.
func TestGroupsUpdate(t *testing.T) {
	s := newSim(t)
	a := byHosts()
	a.Deadman = 2 * minute
	a.ID = s.create(a)
	send := func() { s.send("web1", "cpu_used", 90, "service:old"); s.send("web2", "cpu_used", 10, "service:old") }
	s.run(2*time.Minute, send)
	put := func(change func()) {
		t.Helper()
		change()
		if _, err := s.a.Update(a); err != nil {
			t.Fatal(err)
		}
		s.kill()
		s.start()
		s.run(2*time.Minute, send)
	}
	const fires = "[web1] cpu_used is CRITICAL value:90"
	put(func() { a.Every = 15 * second })
	s.expect(fires)
	put(func() { a.Level = Warn })
	s.expect(fires, "[web1] cpu_used is WARNING value:90")
	put(func() { a.Threshold = 95 })
	s.expect(fires, "[web1] cpu_used is WARNING value:90", "[web1] cpu_used is OK value:90")
	// The deadman does not miss hosts that it knew by other tags.
	put(func() { a.Tags = map[string]string{"service": "new"} })
	s.run(5*time.Minute, nil)
	s.expect(fires, "[web1] cpu_used is WARNING value:90", "[web1] cpu_used is OK value:90")
	put(func() { a.Tags, a.By, a.Deadman, a.Threshold = nil, []string{"service"}, 0, 10 })
	if m := s.posts()[3]; m.Message != "[service:old] cpu_used is WARNING value:50" || m.PreviousLevel != "OK" {
		t.Errorf("%+v", m)
	}
	if n := s.stateKeys(); n != 2 {
		t.Errorf("the state file has %d states", n)
	}
}

// A full queue of an alert with groups first drops a post that is followed by another post of the
// same group, and only then any other.
func TestGroupsQueue(t *testing.T) {
	s := newSim(t)
	id := s.create(byHosts())
	var posts []delivery
	for i := range maxGroupQueue + 2 {
		group := fmt.Sprint(i)
		if i < 4 {
			group = "same"
		}
		posts = append(posts, delivery{Created: int64(i), Group: group, Body: []byte("0")})
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		dropped, err := enqueue(tx, id, posts, true)
		b := bucket(tx, queueBucket)
		keys := keysOf(b, id)
		var first delivery
		if err := unmarshalStored(id, b.Get(keys[0]), &first); err != nil {
			return err
		}
		if dropped != 2 || len(keys) != maxGroupQueue || first.Created != 2 {
			t.Errorf("%d dropped, %d wait, first %+v", dropped, len(keys), first)
		}
		dropped, _ = enqueue(tx, id, []delivery{{Group: "5"}, {Group: "6"}}, true)
		if err := unmarshalStored(id, b.Get(keysOf(b, id)[0]), &first); err != nil {
			return err
		}
		if dropped != 2 || first.Created != 3 {
			t.Errorf("%d dropped, first %+v", dropped, first)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
