package kapa

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// relay appends an event of a relay to the journal, with the present time.
func (s *sim) relay(kind codec.RelayEventKind, relay, collector string) {
	s.records = append(s.records, journal.Record{Seq: uint64(len(s.records) + 1),
		Relay: &codec.RelayEvent{Relay: relay, Kind: kind, Collector: collector, Time: s.now.UnixNano()}})
}

// byHosts is quick for all hosts, with one group for each host.
func byHosts() Alert {
	a := quick()
	a.Tags, a.By = nil, []string{"host"}
	return a
}

func (s *sim) status(id string) Status {
	s.tb.Helper()
	v, err := s.a.Get(id)
	if err != nil {
		s.tb.Fatal(err)
	}
	return v.Status
}

// firing returns the groups that are not OK, with their levels.
func (s *sim) firing(id string) string {
	var all []string
	for _, g := range s.status(id).Groups {
		all = append(all, fmt.Sprint(g.Tags, " ", g.Level))
	}
	return strings.Join(all, "; ")
}

// Each host of an alert is posted separately, when it begins to fire and when that is over, each
// time with the name of the host.
func TestGroupsAreToldEach(t *testing.T) {
	s := newSim(t)
	id := s.create(byHosts())
	send := func(web1, web2 float64) func() {
		return func() { s.send("web1", "cpu_used", web1); s.send("web2", "cpu_used", web2) }
	}
	s.run(2*time.Minute, send(90, 10))
	s.expect("[web1] cpu_used is CRITICAL value:90")
	s.run(2*time.Minute, send(90, 95))
	s.expect("[web1] cpu_used is CRITICAL value:90", "[web2] cpu_used is CRITICAL value:95")
	if got := s.firing(id); got != "map[host:web1] CRITICAL; map[host:web2] CRITICAL" {
		t.Error(got)
	}
	s.run(2*time.Minute, send(10, 95))
	s.expect("[web1] cpu_used is CRITICAL value:90", "[web2] cpu_used is CRITICAL value:95", "[web1] cpu_used is OK value:50")
	m := s.posts()[1]
	if m.ID != "[web2] cpu_used" || !reflect.DeepEqual(m.Data.Series[0].Tags, map[string]string{"host": "web2"}) || m.PreviousLevel != "OK" {
		t.Errorf("%+v", m)
	}
	status := s.status(id)
	if status.Level != "CRITICAL" || *status.GroupsWatched != 2 || *status.GroupsFiring != 1 || s.firing(id) != "map[host:web2] CRITICAL" ||
		*status.Groups[0].Value != 95 || status.Value != nil {
		t.Errorf("%+v", status)
	}
	if all, err := s.a.List(); err != nil || all[0].Status.Groups != nil || *all[0].Status.GroupsFiring != 1 {
		t.Errorf("the list: %+v, %v", all, err)
	}
	s.run(2*time.Minute, send(10, 10))
	if status := s.status(id); status.Level != "OK" || *status.GroupsFiring != 0 || status.Groups != nil {
		t.Errorf("%+v", status)
	}
	if n := len(s.posts()); n != 4 {
		t.Errorf("%d posts", n)
	}
}

// A group holds the readings with equal values of all tags in by. Readings without such a tag are a
// group too.
func TestGroupsByTags(t *testing.T) {
	s := newSim(t)
	a := byHosts()
	a.By = []string{"mount", "host"}
	a.Tags = map[string]string{"service": "shop"}
	s.create(a)
	s.run(2*time.Minute, func() {
		s.send("web1", "cpu_used", 90, "service:shop", "mount:/", "mount:/other")
		s.send("web1", "cpu_used", 10, "service:shop", "mount:/data")
		s.send("web1", "cpu_used", 99, "service:other", "mount:/x")
		s.send("web2", "cpu_used", 91, "service:shop")
	})
	s.expect("[web1,mount:/] cpu_used is CRITICAL value:90", "[web2,mount:] cpu_used is CRITICAL value:91")
	if tags := s.posts()[1].Data.Series[0].Tags; !reflect.DeepEqual(tags, map[string]string{"host": "web2", "mount": ""}) {
		t.Error(tags)
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		tags   map[string]string
		by     []string
		values []string
		want   string
	}{
		{nil, nil, nil, "[*] m"},
		{map[string]string{"host": "h", "a": "b"}, nil, nil, "[h] m"},
		{map[string]string{"c": "d", "a": "b"}, nil, nil, "[a:b,c:d] m"},
		{nil, []string{}, nil, "[*] m"},
		{nil, []string{"host"}, []string{"h"}, "[h] m"},
		{map[string]string{"a": "b"}, []string{"host"}, []string{"h"}, "[h] m"},
		{map[string]string{"host": "h"}, []string{"host"}, []string{"h"}, "[h] m"},
		{map[string]string{"host": "h"}, []string{"mount"}, []string{"/"}, "[h,mount:/] m"},
		{map[string]string{"a": "b"}, []string{"mount"}, []string{""}, "[a:b,mount:] m"},
		{nil, []string{"host", "mount"}, []string{"h", "/"}, "[h,mount:/] m"},
		{nil, []string{"a", "host", "z"}, []string{"1", "h", "2"}, "[h,a:1,z:2] m"},
	} {
		a := Alert{Metric: "m", Tags: tt.tags, By: tt.by}
		if got := a.nameOf(tt.values); got != tt.want {
			t.Errorf("%v by %v of %v is called %s, want %s", tt.tags, tt.by, tt.values, got, tt.want)
		}
	}
}

// A deadman is by host, unless its by says otherwise or it is for a single host.
func TestDeadmanIsByHost(t *testing.T) {
	a := Alert{Deadman: minute}
	if by := a.withDefaults().By; !reflect.DeepEqual(by, []string{"host"}) {
		t.Error(by)
	}
	a.Tags = map[string]string{"host": "web1"}
	if by := a.withDefaults().By; by != nil {
		t.Error(by)
	}
	a.Tags, a.By = nil, []string{}
	if by := a.withDefaults().By; by == nil || len(by) != 0 {
		t.Error(by)
	}
	for _, body := range []string{`,"by":[]`, `,"by":["host","disk"]`, `,"by":null`, ``} {
		got, err := Decode([]byte(`{"metric":"m","threshold":1,"post":"http://127.0.0.1/"` + body + `}`))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if want := map[string]string{`,"by":[]`: "[]", `,"by":["host","disk"]`: "[disk host]"}[body]; want != "" && fmt.Sprint(got.By) != want || want == "" && got.By != nil {
			t.Errorf("%s: %v", body, got.By)
		}
	}
}

// Each host that falls silent is posted, and so is each that sends again, even if the process is
// killed.
func TestDeadmanTellsEachHost(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Tags, a.Deadman = nil, 2*minute
	id := s.create(a)
	hosts := []string{"web1", "web2", "web3"}
	send := func(n int) func() {
		return func() {
			for _, host := range hosts[:n] {
				s.send(host, "cpu_used", 10)
			}
		}
	}
	s.run(2*time.Minute, send(3))
	s.run(4*time.Minute, send(2))
	const dead3, dead2 = "[web3] cpu_used is CRITICAL value:none for 2m from web3", "[web2] cpu_used is CRITICAL value:none for 2m from web2"
	s.expect(dead3)
	s.run(time.Minute, send(1))
	s.kill()
	s.start()
	s.run(4*time.Minute, send(1))
	s.expect(dead3, dead2)
	if got := s.firing(id); got != "map[host:web2] CRITICAL; map[host:web3] CRITICAL" {
		t.Error(got)
	}
	s.kill()
	s.now = s.now.Add(time.Hour)
	s.start()
	s.run(time.Minute, nil)
	if got := s.firing(id); got != "map[host:web2] CRITICAL; map[host:web3] CRITICAL" {
		t.Error(got)
	}
	s.run(2*time.Minute, send(3))
	s.expect(dead3, dead2, "[web2] cpu_used is OK value:10", "[web3] cpu_used is OK value:10")
}

// A relay that is shut down removes its collectors, and that is silence. Collectors that it removes
// while its others send on are not silence.
func TestDeadmanAfterRemoval(t *testing.T) {
	for _, by := range [][]string{{"host"}, {}, {"service"}} {
		for _, stopped := range []bool{false, true} {
			s := newSim(t)
			a := quick()
			a.Tags, a.Deadman, a.By = nil, 2*minute, by
			s.create(a)
			other := func() {
				s.send("web1", "cpu_used", 10, "service:shop")
				s.records[len(s.records)-1].Event.Collectors[0].Name = "other"
			}
			both := func() { s.send("web1", "cpu_used", 10, "service:shop"); other() }
			s.run(2*time.Minute, both)
			s.relay(codec.RelayRemoved, "web1", "c")
			if !stopped {
				s.run(30*time.Minute, other)
				s.expect()
			}
			s.relay(codec.RelayRemoved, "web1", "other")
			s.relay(codec.RelayDisconnected, "web1", "")
			s.run(time.Minute, nil)
			s.kill()
			s.start()
			s.run(5*time.Minute, nil)
			if got := words(s.posts()); !strings.HasSuffix(got, "cpu_used is CRITICAL value:none for 2m from web1") || len(s.posts()) != 1 {
				t.Errorf("by %v, stopped %v: posted %s", by, stopped, got)
			}
			s.run(2*time.Minute, both)
			if got := words(s.posts()); !strings.HasSuffix(got, "cpu_used is OK value:10") || len(s.posts()) != 2 {
				t.Errorf("by %v, stopped %v: posted %s", by, stopped, got)
			}
			s.kill()
		}
	}
}

// A group without readings is not remembered for ever. It is deleted at once if it has no state to
// keep, and otherwise after a week.
func TestGroupsEnd(t *testing.T) {
	s := newSim(t)
	id := s.create(byHosts())
	dead := byHosts()
	dead.Deadman = 10 * minute
	deadID := s.create(dead)
	week := func() {
		s.now = s.now.Add(24 * time.Hour)
		s.run(time.Minute, func() { s.send("web3", "cpu_used", 10) })
	}
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 90); s.send("web2", "cpu_used", 10) })
	s.run(20*time.Minute, func() { s.send("web3", "cpu_used", 10) })
	if got := s.status(id); *got.GroupsWatched != 2 { // web1, which fires, and web3
		t.Errorf("%+v", got)
	}
	if got := s.status(deadID); *got.GroupsWatched != 3 || *got.GroupsFiring != 2 {
		t.Errorf("%+v", got)
	}
	for range 8 {
		s.kill()
		s.start()
		week()
	}
	s.run(30*time.Minute, func() { s.send("web3", "cpu_used", 10) })
	for _, id := range []string{id, deadID} {
		if got := s.status(id); *got.GroupsWatched != 1 || *got.GroupsFiring != 0 {
			t.Errorf("%+v", got)
		}
	}
	got := words(s.posts())
	if strings.Count(got, "[web1] cpu_used is OK value:none, nothing came for 7 days") != 2 ||
		strings.Count(got, "[web2] cpu_used is OK value:none, nothing came for 7 days") != 1 || strings.Count(got, ";") != 5 {
		t.Error(got)
	}
	if n := s.stateKeys(); n != 3 { // two alerts, and web3 of the deadman
		t.Errorf("the state file has %d states", n)
	}
}

func (s *sim) stateKeys() (n int) {
	s.tb.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error {
		n = bucket(tx, stateBucket).Stats().KeyN
		return nil
	}); err != nil {
		s.tb.Fatal(err)
	}
	return n
}

// The number of groups is bounded, for each alert and for all alerts together. Further groups are
// not watched, and the alert shows a warning.
func TestGroupsAreBounded(t *testing.T) {
	s := newSim(t)
	s.e.maxGroups = 3
	id := s.create(byHosts())
	send := func(n int) func() {
		return func() {
			for i := range n {
				s.send(fmt.Sprint("web", i), "cpu_used", 90)
			}
		}
	}
	s.run(2*time.Minute, send(5))
	v, err := s.a.Get(id)
	if err != nil || *v.Status.GroupsWatched != 3 || v.Warning != "there are 3 groups, as many as may be: readings of others are not watched" || len(s.posts()) != 3 {
		t.Errorf("%+v, %v, %s", v, err, words(s.posts()))
	}
	s.run(3*time.Minute, send(3))
	if v, err := s.a.Get(id); err != nil || v.Warning != "" {
		t.Errorf("%+v, %v", v, err)
	}
	// A window with many slots weighs more.
	s.e.maxWeight = s.e.weight + 2*(groupWeight+60)
	a := byHosts()
	a.Every, a.Metric = second, "ram"
	id = s.create(a)
	s.run(time.Minute, func() {
		for i := range 5 {
			s.send(fmt.Sprint("web", i), "ram", 10)
		}
	})
	if v, err := s.a.Get(id); err != nil || *v.Status.GroupsWatched != 2 || v.Warning == "" {
		t.Errorf("%+v, %v", v, err)
	}
	// A deleted alert makes room.
	weight := s.e.weight
	if err := s.a.Delete(id); err != nil || s.e.weight != weight-2*(groupWeight+60) {
		t.Errorf("%v, weight %d of %d", err, s.e.weight, weight)
	}
}

// The posts for each host are the same, however often and at whatever moments the process is
// killed, and however old the saved position is.
func TestGroupsKilledAnywhere(t *testing.T) {
	play := func(every int, lazy bool) string {
		s := newSim(t)
		a := byHosts()
		s.create(a)
		a.Deadman, a.Metric = 45*second, "ram"
		s.create(a)
		i := 0
		s.run(600*time.Second, func() {
			s.send("web1", "cpu_used", wave(i))
			if i%200 < 100 {
				s.send("web2", "cpu_used", wave(i+60))
				s.send("web2", "ram", wave(i+60))
			}
			s.send("web3", "ram", 10)
			i++
			s.lazy = lazy && i%3 > 0
			if every > 0 && i%every == 0 {
				s.kill()
				s.start()
				s.e.live = s.now.Add(-time.Hour) // without the grace after a restart
			}
		})
		defer s.kill()
		of := map[string][]string{} // the order counts within a group only
		for _, m := range s.posts() {
			of[m.ID] = append(of[m.ID], m.Message)
		}
		return fmt.Sprint(of)
	}
	want := play(0, false)
	if strings.Count(want, "CRITICAL") < 6 || !strings.Contains(want, "none for 45s from web2") {
		t.Fatalf("the test says nothing: %s", want)
	}
	for _, every := range []int{7, 29, 30, 31, 100} {
		for _, lazy := range []bool{false, true} {
			if got := play(every, lazy); got != want {
				t.Errorf("killed every %d s, lazy %v: %s\nwant %s", every, lazy, got, want)
			}
		}
	}
}

// A host that falls silent while Pulse is away is posted after Pulse has listened for long enough.
func TestDeadmanOfAnOutage(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Tags, a.Deadman = nil, 2*minute
	s.create(a)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10); s.send("web2", "cpu_used", 10) })
	s.kill()
	s.now = s.now.Add(time.Hour)
	s.start()
	// The relay did not come back in time, so the registry removes its collectors.
	s.relay(codec.RelayRemoved, "web1", "c")
	s.run(time.Minute, func() { s.send("web2", "cpu_used", 10) })
	s.expect()
	s.run(3*time.Minute, func() { s.send("web2", "cpu_used", 10) })
	s.expect("[web1] cpu_used is CRITICAL value:none for 2m from web1")
}
