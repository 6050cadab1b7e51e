package latest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector/latest"
)

// pollWorld is a Latest of a server that polls every 5 s. Like the API it selects readings that are
// not older than two polls.
type pollWorld struct {
	*testing.T
	l   *latest.Latest
	seq uint64
}

var began = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func newPollWorld(t *testing.T) *pollWorld {
	return &pollWorld{T: t, l: latest.New(latest.Options{PollInterval: 5 * time.Second})}
}

func at(d time.Duration) int64 { return began.Add(d).UnixNano() }

// read applies an event of web1 with two readings of each collector.
func (w *pollWorld) read(d time.Duration, collectors ...string) {
	w.Helper()
	e := &codec.Event{Relay: "web1", Time: at(d)}
	for _, c := range collectors {
		e.Collectors = append(e.Collectors, codec.Collector{Name: c, Stats: []codec.Stat{stat(c+"_a", 1), stat(c+"_b", 2)}})
	}
	w.seq++
	apply(w.T, w.l, w.seq, e)
}

func (w *pollWorld) override(d time.Duration, e codec.RelayEvent) {
	w.Helper()
	e.Relay, e.Time, e.Kind = "web1", at(d), codec.RelayOverride
	w.seq++
	if _, err := w.l.Apply(w.Context(), []journal.Record{{Seq: w.seq, Relay: &e}}); err != nil {
		w.Fatal(err)
	}
}

// want checks whether the stats of a collector are selected at a time.
func (w *pollWorld) want(d time.Duration, collector string, there bool) {
	w.Helper()
	for _, s := range []string{"_a", "_b"} {
		if got := len(values(w.l, collector+s, nil, at(d-10*time.Second))) == 1; got != there {
			w.Errorf("%v: %s is there: %v", d, collector+s, got)
		}
	}
}

const sec = time.Second

// TestSlowOverride checks that a reading may be as old as two of the intervals at which its
// collector is polled.
func TestSlowOverride(t *testing.T) {
	w := newPollWorld(t)
	w.read(0, "sl", "cpu")
	w.want(10*sec, "sl", true)
	w.want(11*sec, "sl", false)
	w.override(2*sec, codec.RelayEvent{Collector: "sl", Interval: 30 * sec, Duration: 90 * sec, Reason: "override A"})
	w.want(32*sec, "sl", true) // the next poll may be 30 s away
	w.want(11*sec, "cpu", false)
	w.read(32*sec, "cpu", "sl")
	w.want(92*sec, "sl", true)
	w.want(93*sec, "sl", false)
	w.want(43*sec, "cpu", false)
	w.read(62*sec, "sl")
	w.want(122*sec, "sl", true)
	w.read(93*sec, "sl") // after the end of the override
	w.want(103*sec, "sl", true)
	w.want(104*sec, "sl", false)

	// A fast override does not shorten the limit, because it may end before the next regular poll.
	w.override(100*sec, codec.RelayEvent{Collector: "sl", Interval: sec, Duration: 20 * sec, Reason: "override B"})
	w.read(101*sec, "sl")
	w.want(111*sec, "sl", true)
	w.want(112*sec, "sl", false)
}

// TestCancelledOverride checks that the last reading stays until the next regular poll is answered,
// and no longer.
func TestCancelledOverride(t *testing.T) {
	w := newPollWorld(t)
	w.override(0, codec.RelayEvent{Collector: "sl", Interval: 20 * sec, Duration: time.Hour, Reason: "override A"})
	w.override(0, codec.RelayEvent{Collector: "sl", Interval: 60 * sec, Duration: time.Hour, Reason: "override B"})
	w.read(0, "sl")
	w.want(120*sec, "sl", true)
	w.override(50*sec, codec.RelayEvent{Collector: "sl", Reason: "override C cancelled"}) // C was fast
	w.want(120*sec, "sl", true)
	w.override(50*sec, codec.RelayEvent{Collector: "sl", Reason: "override B cancelled"})
	w.want(60*sec, "sl", true)
	w.want(61*sec, "sl", false)
	w.read(60*sec, "sl") // override A is still in force
	w.want(100*sec, "sl", true)
	w.override(70*sec, codec.RelayEvent{Collector: "sl", Reason: "override A cancelled"})
	w.want(80*sec, "sl", true)
	w.want(81*sec, "sl", false)
	w.read(71*sec, "sl")
	w.want(82*sec, "sl", false)
}

// TestOverrideBeforeTheStart checks that an override counts once if it is both given to Override
// and read from the journal.
func TestOverrideBeforeTheStart(t *testing.T) {
	w := newPollWorld(t)
	e := codec.RelayEvent{Relay: "web1", Time: at(0), Kind: codec.RelayOverride, Collector: "sl", Interval: 30 * sec, Duration: time.Hour, Reason: "override A"}
	w.l.Override(e)
	w.override(0, e)
	w.read(time.Minute, "sl")
	w.want(2*time.Minute, "sl", true)
	w.override(time.Minute, codec.RelayEvent{Collector: "sl", Reason: "override A cancelled"})
	w.read(61*sec, "sl")
	w.want(72*sec, "sl", false)
}

// TestSlowSeriesAreKept checks that a series stays if it is polled less often than MaxAge. The
// series goes when its time is over, and so does the record of its override. A forgotten relay
// loses all of this at once.
func TestSlowSeriesAreKept(t *testing.T) {
	w := newPollWorld(t)
	tick := func(d time.Duration) {
		t.Helper()
		if _, err := w.l.Tick(t.Context(), began.Add(d)); err != nil {
			t.Fatal(err)
		}
	}
	day := 24 * time.Hour
	tick(0)
	w.override(0, codec.RelayEvent{Collector: "sl", Interval: day, Duration: 3 * day, Reason: "override A"})
	w.read(0, "sl", "cpu")
	tick(2*day - time.Minute)
	if got := w.l.Stats(); !slices.Equal(got, []string{"sl_a", "sl_b"}) {
		t.Errorf("stats %v, want those that are polled once a day", got)
	}
	w.want(2*day-time.Minute, "sl", true)
	w.read(2*day, "sl")
	w.seq++
	if _, err := w.l.Apply(t.Context(), []journal.Record{{Seq: w.seq, Relay: &codec.RelayEvent{Relay: "web1", Time: at(2 * day), Kind: codec.RelayForgotten}}}); err != nil {
		t.Fatal(err)
	}
	w.want(2*day, "sl", false)
	w.read(2*day+sec, "sl") // a new relay with that id
	w.want(2*day+12*sec, "sl", false)
	tick(5 * day)
	if got := w.l.Stats(); len(got) != 0 {
		t.Errorf("stats %v", got)
	}
	apply(t, w.l, 100, journaltest.Event("web1", at(5*day), "sl", nil, stat("sl_a", 1), stat("sl_b", 1)))
	w.want(5*day+11*sec, "sl", false)
}
