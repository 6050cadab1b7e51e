package latest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/latest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ projector.Projection = (*latest.Latest)(nil)
	_ projector.Ticker     = (*latest.Latest)(nil)
)

func apply(tb testing.TB, l *latest.Latest, first uint64, events ...*codec.Event) {
	tb.Helper()
	var records []journal.Record
	for i, e := range events {
		records = append(records, journal.Record{Seq: first + uint64(i), Event: e})
	}
	last := first + uint64(len(events)) - 1
	if seq, err := l.Apply(tb.Context(), records); err != nil || seq != last {
		tb.Fatalf("Apply returned %d, %v", seq, err)
	}
}

// values returns the values that Select visits, sorted.
func values(l *latest.Latest, stat string, filters map[string][]string, since int64) []float64 {
	var vs []float64
	l.Select(stat, filters, since, func(r latest.Reading) { vs = append(vs, r.Value) })
	sort.Float64s(vs)
	return vs
}

func stat(id string, v float64) codec.Stat { return codec.Stat{ID: id, Value: v} }

func TestSelect(t *testing.T) {
	l := latest.New(latest.Options{})
	apply(t, l, 1,
		journaltest.Event("web1", 100, "cpu", []string{"service:a", "guy"}, stat("used", 1), stat("idle", 9)),
		journaltest.Event("web2", 200, "cpu", []string{"service:b"}, stat("used", 2)),
		journaltest.Event("web3", 300, "cpu", []string{"service:a", "zone:x"}, stat("used", 3)),
		journaltest.Event("web3", 300, "cpu", nil, stat("used", 4)),
	)
	for _, tt := range []struct {
		name    string
		stat    string
		filters map[string][]string
		since   int64
		want    []float64
	}{
		{"all", "used", nil, 0, []float64{1, 2, 3, 4}},
		{"fresh", "used", nil, 200, []float64{2, 3, 4}},
		{"none is fresh", "used", nil, 301, nil},
		{"another stat", "idle", nil, 0, []float64{9}},
		{"no such stat", "nope", nil, 0, nil},
		{"by tag", "used", map[string][]string{"service": {"a"}}, 0, []float64{1, 3}},
		{"by host", "used", map[string][]string{"host": {"web3"}}, 0, []float64{3, 4}},
		{"or", "used", map[string][]string{"service": {"a", "b", "a"}}, 0, []float64{1, 2, 3}},
		{"and", "used", map[string][]string{"service": {"a", "b"}, "host": {"web3", "web2"}}, 0, []float64{2, 3}},
		{"and, none", "used", map[string][]string{"service": {"b"}, "host": {"web3"}}, 0, nil},
		{"tag that some lack", "used", map[string][]string{"host": {"web3"}, "zone": {"x"}}, 0, []float64{3}},
		{"no such value", "used", map[string][]string{"service": {"c"}}, 0, nil},
		{"no such key", "used", map[string][]string{"nope": {"c"}, "host": {"web1"}}, 0, nil},
		{"no value", "used", map[string][]string{"service": {}}, 0, nil},
		{"bare words are no tags", "used", map[string][]string{"guy": {""}}, 0, []float64{1, 2, 3, 4}},
		{"without the tag", "used", map[string][]string{"service": {""}}, 0, []float64{4}},
		{"without the tag, fresh", "used", map[string][]string{"zone": {""}}, 200, []float64{2, 4}},
		{"without the tag, or a value", "used", map[string][]string{"service": {"", "b"}}, 0, []float64{2, 4}},
		{"without the tag, and another", "used", map[string][]string{"zone": {""}, "service": {"a", "b"}}, 0, []float64{1, 2}},
		{"without two tags", "used", map[string][]string{"service": {""}, "zone": {""}}, 0, []float64{4}},
		{"without a host", "used", map[string][]string{"host": {""}}, 0, nil},
		{"tag and fresh", "used", map[string][]string{"service": {"a"}}, 200, []float64{3}},
	} {
		if got := values(l, tt.stat, tt.filters, tt.since); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := l.Stats(); !slices.Equal(got, []string{"idle", "used"}) {
		t.Errorf("Stats: %v", got)
	}
	if got := l.TagKeys(); !slices.Equal(got, []string{"host", "service", "zone"}) {
		t.Errorf("TagKeys: %v", got)
	}
	l.Select("used", map[string][]string{"zone": {"x"}}, 0, func(r latest.Reading) {
		want := []latest.Tag{{Key: "host", Value: "web3"}, {Key: "service", Value: "a"}, {Key: "zone", Value: "x"}}
		if r.Time != 300 || !slices.Equal(r.Tags, want) {
			t.Errorf("%+v", r)
		}
	})
	empty := latest.New(latest.Options{})
	if s, k := empty.Stats(), empty.TagKeys(); s == nil || k == nil || len(s)+len(k) != 0 {
		t.Errorf("an empty one has %v, %v", s, k)
	}
}

func TestNewestIsLastInTheJournalWhateverTheClocksSaid(t *testing.T) {
	l := latest.New(latest.Options{})
	future := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	apply(t, l, 1, journaltest.Event("web1", future, "cpu", nil, stat("used", 1)))
	apply(t, l, 2, journaltest.Event("web1", 500, "cpu", nil, stat("used", 2), stat("used", 3)))
	n := 0
	l.Select("used", nil, 0, func(r latest.Reading) {
		if n++; r.Value != 3 || r.Time != 501 {
			t.Errorf("%+v", r)
		}
	})
	if n != 1 {
		t.Errorf("%d series", n)
	}
}

func TestSilentSeriesAreForgottenAndComeBack(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := latest.New(latest.Options{MaxAge: time.Hour, Registerer: reg})
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	at := func(d time.Duration) int64 { return began.Add(d).UnixNano() }
	tick := func(d time.Duration) {
		if _, err := l.Tick(t.Context(), began.Add(d)); err != nil {
			t.Fatal(err)
		}
	}
	tick(0)
	apply(t, l, 1,
		journaltest.Event("web1", at(0), "cpu", []string{"zone:x"}, stat("used", 1), stat("idle", 2)),
		journaltest.Event("web2", at(0), "cpu", nil, stat("used", 3)),
		journaltest.Event("web3", at(100*time.Hour), "cpu", nil, stat("ahead", 3)))
	apply(t, l, 4, journaltest.Event("web1", at(50*time.Minute), "cpu", []string{"zone:x"}, stat("used", 4)))
	tick(61 * time.Minute)
	if got := values(l, "used", nil, 0); !slices.Equal(got, []float64{4}) {
		t.Fatalf("used: %v", got)
	}
	if got := l.Stats(); !slices.Equal(got, []string{"used"}) {
		t.Fatalf("stats: %v", got)
	}
	if got := values(l, "used", map[string][]string{"host": {"web1"}}, 0); !slices.Equal(got, []float64{4}) {
		t.Fatalf("by host: %v", got)
	}
	apply(t, l, 5,
		journaltest.Event("web1", at(62*time.Minute), "cpu", []string{"zone:x"}, stat("used", 5), stat("idle", 6)),
		journaltest.Event("web2", at(62*time.Minute), "cpu", nil, stat("used", 7)))
	if got := values(l, "used", nil, 0); !slices.Equal(got, []float64{5, 7}) {
		t.Fatalf("used, once it came back: %v", got)
	}
	tick(200 * time.Minute)
	if s, k := l.Stats(), l.TagKeys(); len(s) != 0 || len(k) != 0 {
		t.Fatalf("left: %v %v", s, k)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
	}
	if got["pulse_projector_latest_series"] != 0 || got["pulse_projector_latest_evicted_total"] != 6 {
		t.Fatalf("metrics: %v", got)
	}
}

// TestAgainstAScan compares the answers of the index with a scan of every series, while series
// come, go and change.
func TestAgainstAScan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	l := latest.New(latest.Options{MaxAge: time.Hour})
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	type held struct {
		r    latest.Reading
		stat string
	}
	model := make(map[string]held)
	for step := range uint64(3000) {
		now = now.Add(time.Duration(rng.IntN(60)) * time.Second)
		host, zone, st := fmt.Sprint("h", rng.IntN(20)), fmt.Sprint("z", rng.IntN(3)), fmt.Sprint("s", rng.IntN(3))
		v := rng.Float64()
		apply(t, l, step+1, journaltest.Event(host, now.UnixNano(), "c", []string{"zone:" + zone}, stat(st, v)))
		model[host+zone+st] = held{latest.Reading{Time: now.UnixNano(), Value: v,
			Tags: []latest.Tag{{Key: "host", Value: host}, {Key: "zone", Value: zone}}}, st}
		if rng.IntN(10) == 0 {
			if _, err := l.Tick(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
		since := now.Add(-30 * time.Minute).UnixNano()
		filters := map[string][]string{"host": {fmt.Sprint("h", rng.IntN(20)), fmt.Sprint("h", rng.IntN(20))}, "zone": {fmt.Sprint("z", rng.IntN(3))}}
		if rng.IntN(2) == 0 {
			delete(filters, []string{"host", "zone"}[rng.IntN(2)])
		}
		var want []float64
		for _, h := range model {
			if h.stat == st && h.r.Time >= since && !slices.ContainsFunc(h.r.Tags, func(tag latest.Tag) bool {
				f, ok := filters[tag.Key]
				return ok && !slices.Contains(f, tag.Value)
			}) {
				want = append(want, h.r.Value)
			}
		}
		sort.Float64s(want)
		if got := values(l, st, filters, since); !slices.Equal(got, want) {
			t.Fatalf("step %d: %v for %v, want %v", step, got, filters, want)
		}
	}
}

func TestReadsDuringWrites(t *testing.T) {
	l := latest.New(latest.Options{MaxAge: time.Minute})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l.Select("used", map[string][]string{"host": {"h1", "h2"}}, 0, func(r latest.Reading) {
					if float64(r.Time) != r.Value || r.Tags[0].Key != "host" {
						t.Errorf("a torn reading: %+v", r)
					}
				})
				l.Stats()
				l.TagKeys()
			}
		})
	}
	for i := range int64(3000) {
		at := i * int64(time.Second)
		apply(t, l, uint64(i+1), journaltest.Event(fmt.Sprint("h", i%5), at, "c", nil, stat("used", float64(at)), stat(fmt.Sprint("s", i%300), 1)))
		if _, err := l.Tick(t.Context(), time.Unix(0, at)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

// What comes late from a relay's spool is the newest only where there is nothing newer.
func TestThePastNeverReplacesTheNewer(t *testing.T) {
	l := latest.New(latest.Options{})
	past := func(at int64, v float64, stats ...string) *codec.Event {
		e := &codec.Event{Relay: "web1", Time: at, Past: true}
		for _, id := range stats {
			e.Collectors = append(e.Collectors, codec.Collector{Name: id, Stats: []codec.Stat{stat(id, v)}})
		}
		return e
	}
	want := func(id string, at int64, v float64) {
		t.Helper()
		n := 0
		l.Select(id, nil, 0, func(r latest.Reading) {
			if n++; r.Value != v || r.Time != at {
				t.Errorf("%s is %+v, want %v at %d", id, r, v, at)
			}
		})
		if n != 1 {
			t.Errorf("%d series of %s", n, id)
		}
	}
	apply(t, l, 1, journaltest.Event("web1", 1000, "used", nil, stat("used", 1)))
	apply(t, l, 2, past(900, 2, "used", "free"), past(1000, 3, "used"), past(800, 4, "free"))
	want("used", 1000, 1)
	want("free", 900, 2)
	apply(t, l, 5, past(1001, 5, "used"))
	want("used", 1001, 5)
	apply(t, l, 6, journaltest.Event("web1", 1000, "used", nil, stat("used", 6))) // a clock that was set back
	want("used", 1000, 6)
}
