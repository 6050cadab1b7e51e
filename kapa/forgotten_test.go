package kapa

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// An alert that fires because of a forgotten relay ends, and its receiver is notified. An alert
// that other relays also belong to continues.
func TestForgottenRelay(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(a *Alert)
		post string // what the forgetting posts
	}{
		{"by host", func(a *Alert) { a.By = []string{"host"} }, "[web1] cpu_used is OK value:none, web1 was forgotten"},
		{"of the host", func(a *Alert) { a.Tags = map[string]string{"host": "web1"} }, "[web1] cpu_used is OK value:none, web1 was forgotten"},
		{"deadman by host", func(a *Alert) { a.Deadman, a.Threshold = 2*minute, 1000 }, "[web1] cpu_used is OK value:none, web1 was forgotten"},
		{"deadman of the host", func(a *Alert) {
			a.Deadman, a.Threshold, a.Tags = 2*minute, 1000, map[string]string{"host": "web1"}
		}, "[web1] cpu_used is OK value:none, web1 was forgotten"},
		{"deadman over all", func(a *Alert) { a.Deadman, a.Threshold, a.By = 2*minute, 1000, []string{} }, "[*] cpu_used is OK value:10"},
		{"of a tag that only it has", func(a *Alert) { a.Tags = map[string]string{"only": "web1"} }, "[only:web1] cpu_used is OK value:none, web1 was forgotten"},
		{"by a tag that only it has", func(a *Alert) { a.By = []string{"only"} }, "[only:web1] cpu_used is OK value:none, web1 was forgotten"},
		{"over all", func(*Alert) {}, ""},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, killed), func(t *testing.T) {
				s := newSim(t)
				a := quick()
				a.Tags = nil
				tt.make(&a)
				id := s.create(a)
				web2 := func() { s.send("web2", "cpu_used", 10, "only:web2") }
				s.run(3*time.Minute, func() { s.send("web1", "cpu_used", 990, "only:web1"); web2() })
				s.run(5*time.Minute, web2)
				if tt.post == "" {
					return // it ends because of web2's readings
				}
				before := words(s.posts())
				if strings.Count(before, "CRITICAL") != 1 || len(s.posts()) != 1 {
					t.Fatal(before)
				}
				kill := func() {
					if killed {
						s.kill()
						s.start()
					}
				}
				kill()
				s.relay(codec.RelayForgotten, "web1", "")
				s.run(time.Second, web2)
				kill() // the record is read again
				s.run(10*time.Minute, web2)
				s.expect(before, tt.post)
				if got := s.posts()[1]; got.PreviousLevel != "CRITICAL" || got.Duration <= 0 {
					t.Errorf("%+v", got)
				}
				if status := s.status(id); status.Level != "OK" || len(status.Silent) > 0 {
					t.Errorf("%+v", status)
				}
				// The relay may come back, and then its alert begins again.
				s.run(3*time.Minute, func() { s.send("web1", "cpu_used", 990, "only:web1"); web2() })
				s.run(5*time.Minute, web2)
				kill()
				s.run(time.Minute, web2)
				if posts := s.posts(); len(posts) != 3 || posts[2].Message != before {
					t.Error(words(posts))
				}
			})
		}
	}
}

// A relay was forgotten and came back, and its alert fires. When the old record of the forgetting
// is read again, the alert still fires.
func TestForgottenRelayCameBack(t *testing.T) {
	for _, a := range []Alert{quick(), byHosts()} {
		a.Duration = 10 * minute // so that the position stays before the record
		s := newSim(t)
		id := s.create(a)
		s.run(time.Minute, func() { s.send("web1", "cpu_used", 10) })
		s.relay(codec.RelayForgotten, "web1", "")
		s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 90) })
		const fires = "[web1] cpu_used is CRITICAL value:90"
		s.expect(fires)
		s.kill()
		s.start()
		s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 90) })
		s.expect(fires)
		if got := s.status(id).Level; got != "CRITICAL" {
			t.Error(got)
		}
	}
}
