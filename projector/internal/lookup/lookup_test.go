package lookup_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	cache   = lookup.Cache[struct{}, int]
	reading = lookup.Reading[struct{}, int]
)

func TestTags(t *testing.T) {
	for _, tt := range []struct {
		sent []string
		want []lookup.Tag
	}{
		{nil, []lookup.Tag{{Key: "host", Value: "web1"}}},
		{[]string{"service:a", "guy", "b:1:2"}, []lookup.Tag{{Key: "b", Value: "1:2"}, {Key: "host", Value: "web1"}, {Key: "service", Value: "a"}}},
		{[]string{"host:other", "x:1", "x:2"}, []lookup.Tag{{Key: "host", Value: "web1"}, {Key: "x", Value: "1"}}},
		{[]string{":v", "k:", "", ":", "time:now"}, []lookup.Tag{{Key: "host", Value: "web1"}}},
	} {
		if got := lookup.Tags(codec.RelayKey{Relay: "web1"}, tt.sent); !slices.Equal(got, tt.want) {
			t.Errorf("Tags(%q) = %v, want %v", tt.sent, got, tt.want)
		}
	}
}

func TestTagsOfEdges(t *testing.T) {
	sent := []string{"edge:mine", "x:1"}
	if got, want := lookup.Tags(codec.RelayKey{Edge: "ams1", Relay: "web1"}, sent), []lookup.Tag{{Key: "edge", Value: "ams1"}, {Key: "host", Value: "web1"}, {Key: "x", Value: "1"}}; !slices.Equal(got, want) {
		t.Errorf("of an edge: %v", got)
	}
	if got, want := lookup.Tags(codec.RelayKey{Relay: "web1"}, sent), []lookup.Tag{{Key: "edge", Value: "mine"}, {Key: "host", Value: "web1"}, {Key: "x", Value: "1"}}; !slices.Equal(got, want) {
		t.Errorf("of an own relay: %v", got)
	}
	var c cache
	e := event(col("a", nil, "used"))
	var series []*lookup.Series[struct{}, int]
	for _, edge := range []string{"", "ams1", "fra1"} {
		e.Edge = edge
		s := c.Relay(e.Key()).Resolve(e, nil)[0].Series
		if slices.Contains(series, s) || c.Find(e.Key()).Len() != 1 {
			t.Errorf("a relay of %q has the series of another", edge)
		}
		series = append(series, s)
	}
	if c.Drop(c.Relay(codec.RelayKey{Edge: "ams1", Relay: "web1"})); c.Len() != 2 {
		t.Errorf("%d series are left", c.Len())
	}
}

func event(cols ...codec.Collector) *codec.Event {
	return &codec.Event{Relay: "web1", Collectors: cols}
}

func col(name string, tags []string, stats ...string) codec.Collector {
	c := codec.Collector{Name: name, Tags: tags}
	for i, s := range stats {
		c.Stats = append(c.Stats, codec.Stat{ID: s, Value: float64(i)})
	}
	return c
}

func TestResolveSharesSeriesAndCountsWithinAnEvent(t *testing.T) {
	var c cache
	r := c.Relay(codec.RelayKey{Relay: "web1"})
	e := event(col("a", []string{"x:1"}, "used", "idle", "used"), col("b", []string{"bare", "x:1"}, "used"), col("c", nil, "used"))
	for range 3 { // the maps find the series first, then their places
		got := r.Resolve(e, nil)
		if len(got) != 5 || c.Len() != 3 || r.Len() != 3 {
			t.Fatalf("%d readings of %d series", len(got), c.Len())
		}
		for i, want := range []struct {
			stat string
			nth  int64
			like int
		}{{"used", 0, 0}, {"idle", 0, 1}, {"used", 1, 0}, {"used", 2, 0}, {"used", 0, 4}} {
			if g := got[i]; g.Series.Stat != want.stat || g.Nth != want.nth || g.Series != got[want.like].Series {
				t.Errorf("reading %d is %s, the %d-th of %p", i, g.Series.Stat, g.Nth, g.Series)
			}
		}
	}
}

// TestResolveFollowsEveryChange compares Resolve with a simple map by stat and tags, for relays with
// few names and with many.
func TestResolveFollowsEveryChange(t *testing.T) {
	for _, names := range []int{2, 5, 60} {
		t.Run(fmt.Sprint(names), func(t *testing.T) { followEveryChange(t, names) })
	}
}

func followEveryChange(t *testing.T, names int) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c cache
	series := make(map[string]*lookup.Series[struct{}, int])
	for range 5000 {
		e := &codec.Event{Relay: fmt.Sprint("r", rng.IntN(3))}
		for range rng.IntN(4) {
			cl := col(fmt.Sprint("c", rng.IntN(names)), nil)
			for range rng.IntN(3) {
				cl.Tags = append(cl.Tags, fmt.Sprintf("k%d:%d", rng.IntN(2), rng.IntN(names)))
			}
			for range rng.IntN(4) {
				cl.Stats = append(cl.Stats, codec.Stat{ID: fmt.Sprint("s", rng.IntN(names)), Value: rng.Float64()})
			}
			e.Collectors = append(e.Collectors, cl)
		}
		got := c.Relay(e.Key()).Resolve(e, nil)
		nth := make(map[string]int64)
		i := 0
		for _, cl := range e.Collectors {
			for _, s := range cl.Stats {
				key := fmt.Sprint(s.ID, lookup.Tags(e.Key(), cl.Tags))
				if old := series[key]; old != nil && old != got[i].Series {
					t.Fatalf("%s changed its series", key)
				}
				series[key] = got[i].Series
				if got[i].Value != s.Value || got[i].Nth != nth[key] || got[i].Series.Stat != s.ID {
					t.Fatalf("%s resolved to %+v", key, got[i])
				}
				nth[key]++
				i++
			}
		}
		if i != len(got) {
			t.Fatalf("%d readings, want %d", len(got), i)
		}
	}
	distinct := make(map[*lookup.Series[struct{}, int]]bool)
	for _, s := range series {
		distinct[s] = true
	}
	if len(distinct) != len(series) || c.Len() != len(series) {
		t.Fatalf("%d keys have %d series, Len is %d", len(series), len(distinct), c.Len())
	}
}

func TestForgetting(t *testing.T) {
	var c cache
	for i := range 10 {
		id := fmt.Sprint("r", i)
		c.Relay(codec.RelayKey{Relay: id}).Resolve(&codec.Event{Relay: id, Collectors: []codec.Collector{col("c", nil, "a", "b")}}, nil)
	}
	c.Sweep() // sets the mark for the next Sweep
	e := &codec.Event{Relay: "r1", Collectors: []codec.Collector{col("c", nil, "b")}}
	before := c.Relay(codec.RelayKey{Relay: "r1"}).Resolve(e, nil)[0].Series
	c.Sweep()
	if c.Len() != 1 {
		t.Fatalf("%d series are left, want r1's b", c.Len())
	}
	got := c.Relay(codec.RelayKey{Relay: "r1"}).Resolve(&codec.Event{Relay: "r1", Collectors: []codec.Collector{col("c", nil, "a", "b")}}, nil)
	if got[1].Series != before || c.Len() != 2 {
		t.Fatalf("b is another series now, or there are %d", c.Len())
	}
	r := c.Relay(codec.RelayKey{Relay: "r1"})
	c.Drop(r)
	if c.Len() != 0 || c.Relay(codec.RelayKey{Relay: "r1"}) == r {
		t.Fatalf("dropped, and %d are left", c.Len())
	}
	if got := r.Resolve(e, nil); got[0].Series != before {
		t.Fatal("a dropped relay does not go on")
	}
}

// heap returns the bytes of the objects that live.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSmallRelaysTakeLittleMemory has relays as Pulse 0.2 knew them: a collector for each stat.
func TestSmallRelaysTakeLittleMemory(t *testing.T) {
	e := event()
	for i := range 10 {
		name := fmt.Sprint("stat_", i)
		e.Collectors = append(e.Collectors, col(name, []string{"service:web", "dc:ams"}, name))
	}
	var c cache
	var dst []reading
	before := heap()
	for i := range 1000 {
		e.Relay = fmt.Sprint("relay", i)
		dst = c.Relay(e.Key()).Resolve(e, dst[:0])
	}
	if each := (heap() - before) / uint64(c.Len()); each > 180 {
		t.Errorf("a series takes %d bytes, expected 145", each)
	}
	runtime.KeepAlive(&c)
}

func TestNamesThatNeverRepeatStayBounded(t *testing.T) {
	var c cache
	r := c.Relay(codec.RelayKey{Relay: "r"})
	var dst []reading
	before := heap()
	for i := range 100_000 {
		dst = r.Resolve(event(col(fmt.Sprint("c", i), nil, "a")), dst[:0])
	}
	if after := heap(); after > before+4<<20 {
		t.Fatalf("%d bytes are kept after 100,000 names of collectors with one series", after-before)
	}
	if c.Len() != 1 || r.Len() != 1 {
		t.Fatalf("%d series", c.Len())
	}
}

func TestResolveDoesNotAllocate(t *testing.T) {
	var c cache
	e := event(col("a", []string{"x:1"}, "used", "idle"), col("b", nil, "used"))
	dst := c.Relay(codec.RelayKey{Relay: "web1"}).Resolve(e, nil)
	if n := testing.AllocsPerRun(100, func() { dst = c.Relay(codec.RelayKey{Relay: "web1"}).Resolve(e, dst[:0]) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkResolve(b *testing.B) {
	var c cache
	events := make([]*codec.Event, 1000)
	for i := range events {
		e := event(col("cpu", []string{"service:a"}, "s0", "s1", "s2", "s3", "s4"), col("ram", nil, "s5", "s6", "s7", "s8", "s9"))
		e.Relay = fmt.Sprint("relay", i)
		events[i] = e
	}
	var dst []reading
	n := 0
	for b.Loop() {
		e := events[n%len(events)]
		dst = c.Relay(e.Key()).Resolve(e, dst[:0])
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*10), "ns/reading")
}
