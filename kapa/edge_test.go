package kapa

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal/codec"
)

// sendOf appends a reading of an edge's relay that reaches the hub late by that much.
func (s *sim) sendOf(edge, relay, metric string, value float64, late time.Duration, tags ...string) {
	s.send(relay, metric, value, tags...)
	e := s.records[len(s.records)-1].Event
	e.Edge, e.Time, e.Past = edge, e.Time-int64(late), late > 10*time.Second
}

// relayOf appends what happened to an edge's relay that much before.
func (s *sim) relayOf(edge string, kind codec.RelayEventKind, relay, collector string, late time.Duration) {
	s.relay(kind, relay, collector)
	r := s.records[len(s.records)-1].Relay
	r.Edge, r.Time = edge, r.Time-int64(late)
}

// The same relay id at two edges is two hosts, and a third one if the hub has such a relay too: each
// has a group, a name and tags of its own, over kills too.
func TestEdgesAreHostsOfTheirOwn(t *testing.T) {
	s := newSim(t)
	id := s.create(byHosts())
	send := func(own, ams1, fra1 float64) func() {
		return func() {
			s.send("web1", "cpu_used", own)
			s.sendOf("ams1", "web1", "cpu_used", ams1, 0)
			s.sendOf("fra1", "web1", "cpu_used", fra1, time.Second)
		}
	}
	s.run(2*time.Minute, send(10, 95, 10))
	s.kill()
	s.start()
	s.run(2*time.Minute, send(90, 95, 10))
	want := []string{"[web1,edge:ams1] cpu_used is CRITICAL value:95", "[web1] cpu_used is CRITICAL value:90"}
	s.expect(want...)
	posts := s.posts()
	if tags := posts[0].Data.Series[0].Tags; !reflect.DeepEqual(tags, map[string]string{"host": "web1", "edge": "ams1"}) {
		t.Error(tags)
	}
	if tags := posts[1].Data.Series[0].Tags; !reflect.DeepEqual(tags, map[string]string{"host": "web1"}) {
		t.Error(tags)
	}
	if got := s.firing(id); got != "map[host:web1] CRITICAL; map[edge:ams1 host:web1] CRITICAL" || *s.status(id).GroupsWatched != 3 {
		t.Error(got)
	}
	// One is forgotten, and the others go on.
	s.relayOf("ams1", codec.RelayForgotten, "web1", "", 0)
	s.run(time.Minute, func() { s.send("web1", "cpu_used", 90); s.sendOf("fra1", "web1", "cpu_used", 10, 0) })
	s.expect(append(want, "[web1,edge:ams1] cpu_used is OK value:none, web1 of edge ams1 was forgotten")...)
	if got := s.firing(id); got != "map[host:web1] CRITICAL" {
		t.Error(got)
	}
}

// An alert may ask for an edge, and have a group for each. A tag edge that a relay of an edge sends
// does not count, one of the hub's own relays does.
func TestEdgeIsATag(t *testing.T) {
	for _, tt := range []struct {
		tags map[string]string
		by   []string
		want string
	}{
		{map[string]string{"edge": "ams1"}, nil, "[edge:ams1] m is CRITICAL value:90"},
		{map[string]string{"edge": "ams1", "dc": "a"}, nil, "[dc:a,edge:ams1] m is CRITICAL value:90"},
		{map[string]string{"edge": "ams1", "host": "web1"}, nil, "[web1,edge:ams1] m is CRITICAL value:90"},
		{map[string]string{"edge": "ams1"}, []string{"host"}, "[web1,edge:ams1] m is CRITICAL value:90"},
		{map[string]string{"edge": "lab"}, nil, "[edge:lab] m is CRITICAL value:93"},
		{map[string]string{"edge": "lies"}, nil, ""},
		{map[string]string{"host": "web1"}, nil, "[web1] m is CRITICAL value:91"},
		{map[string]string{"host": "web1"}, []string{"edge"}, "[web1,edge:ams1] m is CRITICAL value:90; [web1,edge:fra1] m is CRITICAL value:92"},
		{nil, []string{"edge"}, "[edge:] m is CRITICAL value:85; [edge:ams1] m is CRITICAL value:90; [edge:fra1] m is CRITICAL value:92; [edge:lab] m is CRITICAL value:93"},
		{nil, []string{"edge", "host"}, "[web1,edge:ams1] m is CRITICAL value:90; [web1,edge:fra1] m is CRITICAL value:92; [web2,edge:] m is CRITICAL value:85; [web3,edge:lab] m is CRITICAL value:93"},
		{nil, []string{"dc", "host"}, "[web1,edge:ams1,dc:a] m is CRITICAL value:90; [web1,edge:fra1,dc:a] m is CRITICAL value:92; [web2,dc:a] m is CRITICAL value:85; [web3,dc:a] m is CRITICAL value:93"},
	} {
		t.Run(fmt.Sprint(tt.tags, tt.by), func(t *testing.T) {
			s := newSim(t)
			a := quick()
			a.Metric, a.Tags, a.By = "m", tt.tags, tt.by
			s.create(a)
			from := s.now
			s.run(2*time.Minute, func() {
				s.sendOf("ams1", "web1", "m", 90, 0, "edge:lies", "dc:a")
				s.sendOf("fra1", "web1", "m", 92, 0, "edge:ams1", "dc:a")
				s.send("web2", "m", 85, "dc:a")
				s.send("web3", "m", 93, "edge:lab", "dc:a")
			})
			got := strings.Split(words(s.posts()), "; ")
			if want := strings.Split(tt.want, "; "); !sameWords(got, want) {
				t.Errorf("posted %q\nwanted %q", got, want)
			}
			if got := strings.Split(said(s.try(a, from, s.now)), "; "); !sameWords(got, strings.Split(tt.want, "; ")) {
				t.Errorf("a trial says %q", got)
			}
		})
	}
}

// sameWords compares without the order.
func sameWords(a, b []string) bool {
	count := map[string]int{}
	for _, w := range a {
		count[w]++
	}
	for _, w := range b {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// The link of an edge is down: its relays are silent, and the post says that it is an edge. What the
// edge sends late does not end that. What it sends in time does.
func TestDeadmanOfAnEdge(t *testing.T) {
	const look = " (GET /edges says whether the link is up)"
	for _, tt := range []struct {
		tags  map[string]string
		by    []string
		fires []string // posts, in order
		over  []string
	}{
		{nil, nil, // each host
			[]string{"[web1,edge:ams1] m is CRITICAL value:none for 2m from web1 of edge ams1" + look, "[web2,edge:ams1] m is CRITICAL value:none for 2m from web2 of edge ams1" + look},
			[]string{"[web1,edge:ams1] m is OK value:10", "[web2,edge:ams1] m is OK value:10"}},
		{nil, []string{"edge"},
			[]string{"[edge:ams1] m is CRITICAL value:none for 2m from web1, web2 of edge ams1" + look},
			[]string{"[edge:ams1] m is OK value:10"}},
		{map[string]string{"edge": "ams1"}, []string{},
			[]string{"[edge:ams1] m is CRITICAL value:none for 2m from web1, web2 of edge ams1" + look},
			[]string{"[edge:ams1] m is OK value:10"}},
		{map[string]string{"host": "web1"}, nil,
			[]string{"[web1] m is CRITICAL value:none for 2m from web1 of edge ams1" + look},
			[]string{"[web1] m is OK value:10"}},
		{map[string]string{"edge": "ams1", "host": "web1"}, nil,
			[]string{"[web1,edge:ams1] m is CRITICAL value:none for 2m from web1 of edge ams1" + look},
			[]string{"[web1,edge:ams1] m is OK value:10"}},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.tags, tt.by, killed), func(t *testing.T) {
				s := newSim(t)
				a := quick()
				a.Metric, a.Tags, a.By, a.Deadman = "m", tt.tags, tt.by, 2*minute
				id := s.create(a)
				from := s.now
				own := func() { s.send("web1", "m", 10); s.send("web9", "m", 10) }
				edge := func(name string, late time.Duration) {
					s.sendOf(name, "web1", "m", 10, late)
					s.sendOf(name, "web2", "m", 10, late)
				}
				s.run(3*time.Minute, func() { own(); edge("fra1", 0); edge("ams1", 3*time.Second) })
				s.run(5*time.Minute, func() { own(); edge("fra1", 0) })
				s.expect(tt.fires...)
				for _, m := range s.posts() {
					if m.Data.Series[0].Values[0][1] != nil {
						t.Errorf("a silence has a value: %+v", m)
					}
				}
				if killed {
					s.kill()
					s.start()
				}
				// The link is back, and the edge is late.
				late := 5 * time.Minute
				s.relayOf("ams1", codec.RelayRemoved, "web3", "c", late)
				s.run(3*time.Minute, func() { own(); edge("fra1", 0); edge("ams1", late); late -= time.Second })
				s.expect(tt.fires...)
				if got := fmt.Sprint(silentOf(s.status(id))); !strings.Contains(got, "web1 of edge ams1") {
					t.Error(got)
				}
				s.run(time.Minute, func() { own(); edge("fra1", 0); edge("ams1", 2*time.Second) })
				s.expect(append(tt.fires, tt.over...)...)
				for _, m := range s.posts()[len(tt.fires):] {
					if m.PreviousLevel != "CRITICAL" || m.Duration <= 0 {
						t.Errorf("%+v", m)
					}
				}
				if got := said(s.try(a, from, s.now)); got != words(s.posts()) {
					t.Errorf("a trial says %s", got)
				}
			})
		}
	}
}

func silentOf(s Status) []string {
	for _, g := range s.Groups {
		s.Silent = append(s.Silent, g.Silent...)
	}
	return s.Silent
}

// The readings of an edge count by its clock. One that is far behind is silence to a deadman, until
// the clock is right.
func TestEdgeWithAWrongClock(t *testing.T) {
	s := newSim(t)
	a := byHosts()
	a.Deadman = 2 * minute
	s.create(a)
	send := func(wrong time.Duration) func() {
		return func() {
			s.sendOf("ams1", "web1", "cpu_used", 90, 0)
			s.records[len(s.records)-1].Event.Time -= int64(wrong)
		}
	}
	const late, over = "[web1,edge:ams1] cpu_used is CRITICAL value:none for 2m from web1 of edge ams1 (GET /edges says whether the link is up)",
		"[web1,edge:ams1] cpu_used is OK value:10"
	s.run(5*time.Minute+10*time.Second, send(10*time.Minute))
	s.expect(late)
	s.run(2*time.Minute, func() { s.sendOf("ams1", "web1", "cpu_used", 10, 0) })
	s.expect(late, over)
}

// A silence over several edges names each.
func TestSilenceNamesEdges(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, relayKey(codec.RelayKey{Edge: "ams1", Relay: fmt.Sprintf("web%02d", i)}))
	}
	var edges []string
	for i := range 8 {
		edges = append(edges, relayKey(codec.RelayKey{Edge: fmt.Sprint("e", i), Relay: "a"}))
	}
	const look = " (GET /edges says whether the link is up)"
	for want, relays := range map[string][]string{
		"a of edge e0; a of edge e1; a of edge e2; a of edge e3; a of edge e4; and those of 3 more edges" + look: edges,
		"web1, web2": {"web1", "web2"},
		"web00, web01, web02, web03, web04 and 95 more of edge ams1" + look: many,
		"web1; a, web1 of edge ams1; web1 of edge fra1" + look:              {"a\x01ams1", "web1", "web1\x01ams1", "web1\x01fra1"},
	} {
		if got := silence(relays); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// A relay of an edge that is forgotten ends its alerts, also when the hub hears of it late. A relay
// of the same id, at the hub or at another edge, goes on.
func TestForgottenRelayOfAnEdge(t *testing.T) {
	const over = "m is OK value:none, web1 of edge ams1 was forgotten"
	for _, tt := range []struct {
		name string
		make func(*Alert)
		post string
	}{
		{"by host", func(a *Alert) { a.By = []string{"host"} }, "[web1,edge:ams1] " + over},
		{"by host of the edge", func(a *Alert) { a.By, a.Tags = []string{"host"}, map[string]string{"edge": "ams1"} }, "[web1,edge:ams1] " + over},
		{"of the host of the edge", func(a *Alert) { a.Tags = map[string]string{"edge": "ams1", "host": "web1"} }, "[web1,edge:ams1] " + over},
		{"deadman by host", func(a *Alert) { a.Deadman, a.Threshold = 2*minute, 1000 }, "[web1,edge:ams1] " + over},
		{"deadman of the host of the edge", func(a *Alert) {
			a.Deadman, a.Threshold, a.Tags = 2*minute, 1000, map[string]string{"edge": "ams1", "host": "web1"}
		}, "[web1,edge:ams1] " + over},
		{"deadman of the host", func(a *Alert) {
			a.Deadman, a.Threshold, a.Tags = 2*minute, 1000, map[string]string{"host": "web1"}
		}, "[web1] m is OK value:10"},
		{"deadman by edge", func(a *Alert) { a.Deadman, a.Threshold, a.By = 2*minute, 1000, []string{"edge"} }, "[edge:ams1] " + over},
	} {
		for _, late := range []time.Duration{0, 5*time.Minute + 30*time.Second} {
			for _, killed := range []bool{false, true} {
				t.Run(fmt.Sprint(tt.name, late, killed), func(t *testing.T) {
					s := newSim(t)
					a := quick()
					a.Metric, a.Tags = "m", nil
					tt.make(&a)
					id := s.create(a)
					others := func() { s.send("web1", "m", 10); s.sendOf("fra1", "web1", "m", 10, time.Second) }
					s.run(3*time.Minute, func() { s.sendOf("ams1", "web1", "m", 990, 0); others() })
					s.run(5*time.Minute, others)
					before := words(s.posts())
					if len(s.posts()) != 1 || s.posts()[0].Level != "CRITICAL" {
						t.Fatal(before)
					}
					kill := func() {
						if killed {
							s.kill()
							s.start()
						}
					}
					kill()
					// Relays of that id that others forget change nothing.
					s.relayOf("ber1", codec.RelayForgotten, "web1", "", 0)
					s.run(time.Minute, others)
					s.expect(before)
					s.relayOf("ams1", codec.RelayForgotten, "web1", "", late)
					s.run(time.Second, others)
					kill() // the record is read again
					s.run(10*time.Minute, others)
					s.expect(before, tt.post)
					if got := s.posts()[1]; got.PreviousLevel != "CRITICAL" || got.Duration < 0 {
						t.Errorf("%+v", got)
					}
					if status := s.status(id); status.Level != "OK" || len(status.Silent) > 0 {
						t.Errorf("%+v", status)
					}
				})
			}
		}
	}
}

// An alert that asks for a host without an edge has the relays of all edges that are called so. When
// the hub's own is forgotten, the alert goes on for the others, over a restart and a change too.
func TestForgottenRelayBesideAnEdge(t *testing.T) {
	for _, deadman := range []Duration{0, 2 * minute} {
		for _, between := range []string{"nothing", "kill", "change"} {
			t.Run(fmt.Sprint(deadman, between), func(t *testing.T) {
				s := newSim(t)
				a := quick()
				a.Metric, a.Deadman = "m", deadman
				a.ID = s.create(a)
				s.run(3*time.Minute, func() { s.send("web1", "m", 10); s.sendOf("ams1", "web1", "m", 200, 0) })
				if deadman != 0 {
					s.run(5*time.Minute, func() { s.send("web1", "m", 10) })
				}
				switch between {
				case "kill":
					s.kill()
					s.start()
				case "change":
					a.Threshold = 90
					if _, err := s.a.Update(a); err != nil {
						t.Fatal(err)
					}
				}
				s.relay(codec.RelayForgotten, "web1", "")
				s.run(2*time.Minute, nil)
				got := words(s.posts())
				if deadman != 0 && !strings.HasSuffix(got, "from web1 of edge ams1 (GET /edges says whether the link is up)") || deadman == 0 && got != "[web1] m is CRITICAL value:105" {
					t.Error(got)
				}
				if s.status(a.ID).Level != "CRITICAL" {
					t.Errorf("%+v", s.status(a.ID))
				}
			})
		}
	}
}

// What the state file holds of the hub's own relays is what it held before there were edges. What it
// holds of an edge's relay has the edge.
func TestStateKeysWithEdges(t *testing.T) {
	s := newSim(t)
	a := byHosts()
	a.Deadman = 2 * minute
	id := s.create(a)
	s.run(time.Minute, func() { s.send("web1", "cpu_used", 10); s.sendOf("ams1", "web1", "cpu_used", 10, 0) })
	s.relayOf("ams1", codec.RelayRemoved, "web1", "c", 0)
	s.run(time.Minute, nil)
	got := map[string]string{}
	if err := s.db.View(func(tx *bbolt.Tx) error {
		return bucket(tx, stateBucket).ForEach(func(key, data []byte) error {
			got[strings.TrimPrefix(string(key), id)] = string(seal.Open(data))
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"":                 {`{"evaluated":`},
		"\x00web1":         {`"seen":{"web1\u0000c":`, `"from":"web1"`},
		"\x00web1\x01ams1": {`"seen":{"web1\u0001ams1\u0000c":`, `"removed":{"web1\u0001ams1\u0000c":true}`, `"from":"web1\u0001ams1"`},
	} {
		for _, want := range want {
			if !strings.Contains(got[key], want) {
				t.Errorf("%q is %s, without %s", key, got[key], want)
			}
		}
	}
	if len(got) != 3 {
		t.Errorf("%q", got)
	}
}
