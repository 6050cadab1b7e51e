package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

// lineSession is a session without goroutines: the test passes lines to it.
type lineSession struct {
	*session
	relay *relay
}

// got passes a got line to the session.
func (s *lineSession) got(args []byte) {
	s.handle(s.relay, relaywire.Message{Verb: relaywire.VerbGot, Args: args})
}

// benchSession returns a session of a relay with the given collectors, without a server, so that a
// test can call got directly.
func benchSession(tb testing.TB, o Options, collectors ...string) (*lineSession, *fakeJournal) {
	tb.Helper()
	j := &fakeJournal{}
	if o.Journal == nil {
		o.Journal = j
	}
	o.DB, o.Listener = new(bolt.DB), newPipes()
	o, err := o.withDefaults()
	if err != nil {
		tb.Fatal(err)
	}
	ours, theirs := net.Pipe()
	tb.Cleanup(func() { ours.Close(); theirs.Close() })
	e := newEnv(context.Background(), o)
	s := newSession(e, newTokenCheck("", o.Now), nil, theirs)
	r := newRelay(e, "web1")
	r.conn = s.conn
	s.relay.Store(r)
	for _, name := range collectors {
		name, tags, _ := strings.Cut(name, ":")
		var list []string
		if tags != "" {
			list = strings.Split(tags, ",")
		}
		r.collectors.add(name, list)
	}
	return &lineSession{s, r}, j
}

func TestRejections(t *testing.T) {
	reasons := []string{rejectNoValue, rejectNotNumber, rejectNotFinite, rejectBadName, rejectUnknownCollector, rejectDuplicate, rejectSeriesLimit}
	for name, c := range map[string]struct {
		line string
		want string // the event's text
		bad  map[string]int
	}{
		"all good":                   {"a-x:1,b-y:2", " | a [] x=1 | b [] y=2", nil},
		"text":                       {"a-x:abc,a-y:1", " | a [] y=1", map[string]int{rejectNotNumber: 1}},
		"no value":                   {"a-x:,a,a-y:1", " | a [] y=1", map[string]int{rejectNoValue: 2}},
		"not finite":                 {"a-x:NaN,a-y:+Inf,a-z:1e999,a-y:1", " | a [] y=1", map[string]int{rejectNotFinite: 3}},
		"two dashes":                 {"a-b-c:5,a-y:1", " | a [] y=1", map[string]int{rejectBadName: 1}},
		"no stat":                    {"a-:5,-x:5,a-y:1", " | a [] y=1", map[string]int{rejectBadName: 2}},
		"unknown collector":          {"q-x:1,q:2,a-y:1", " | a [] y=1", map[string]int{rejectUnknownCollector: 2}},
		"twice":                      {"a-x:1,a-x:2,b-x:3,a-x:4", " | a [] x=1 | b [] x=3", map[string]int{rejectDuplicate: 2}},
		"nothing good":               {"q-x:1,a-x:abc", "", map[string]int{rejectUnknownCollector: 1, rejectNotNumber: 1}},
		"nothing":                    {"", "", nil},
		"commas":                     {",,,", "", nil},
		"own name":                   {"a:7", " | a [] a=7", nil},
		"both forms are one":         {"a:7,a-a:8", " | a [] a=7", map[string]int{rejectDuplicate: 1}},
		"decimal comma":              {"a-x:0,25,a-y:1,5,b-x:2", " | b [] x=2", map[string]int{rejectNotNumber: 2}},
		"reserved":                   {"a-_connected:1,_connected:1,a-y:1", " | a [] y=1", map[string]int{rejectBadName: 2}},
		"a rejected is no duplicate": {"a-x:abc,a-x:2", " | a [] x=2", map[string]int{rejectNotNumber: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s, j := benchSession(t, Options{}, "a", "b")
			for line := range 3 { // every line has the same result
				s.got([]byte(c.line))
				total := 0
				for _, why := range reasons {
					got := counterValue(t, s.env.m.rejected.WithLabelValues(why))
					if want := c.bad[why] * (line + 1); int(got) != want {
						t.Errorf("line %d: %v %s, want %d", line, got, why, want)
					}
					total += int(got)
				}
				if got := s.relay.counts.Rejected; got != uint64(total) {
					t.Errorf("line %d: the relay has %d rejected readings, want %d", line, got, total)
				}
			}
			var want []string
			if c.want != "" {
				want = slices.Repeat([]string{"readings web1" + c.want}, 3)
			}
			if got := j.text(); !slices.Equal(got, want) {
				t.Errorf("journal %q, want %q", got, want)
			}
		})
	}
}

func TestSeriesLimitKeepsKnownSeries(t *testing.T) {
	s, j := benchSession(t, Options{Limits: Limits{Series: 20}}, "a", "b")
	line := func(from, to int) []byte {
		var items []string
		for i := from; i < to; i++ {
			items = append(items, fmt.Sprintf("a-s%d:1", i))
		}
		return []byte(strings.Join(items, ","))
	}
	s.got(line(0, 15))
	s.got(line(10, 40))
	s.got(line(0, 40))
	if got, want := j.readings, 15+10+20; got != want {
		t.Errorf("%d readings, want %d", got, want)
	}
	if got, want := counterValue(t, s.env.m.rejected.WithLabelValues(rejectSeriesLimit)), 20+20; int(got) != want {
		t.Errorf("%v refused, want %d", got, want)
	}
	if got := counterValue(t, s.env.m.denied.WithLabelValues(deniedSeries)); got != 1 {
		t.Errorf("the relay was told %v times, want once", got)
	}
	// The stats of a removed collector no longer count towards the limit.
	s.relay.mu.Lock()
	s.relay.collectors.drop(s.relay.collectors.find([]byte("a")))
	s.relay.mu.Unlock()
	s.got([]byte("b-x:1"))
	if j.readings != 46 {
		t.Errorf("%d readings after a collector was removed, want 46", j.readings)
	}
}

func TestManyStatsInAnyOrder(t *testing.T) {
	s, j := benchSession(t, Options{}, "a")
	for _, step := range []int{1, 7, 49, 99} { // all coprime to 100: each gives another order
		var items []string
		for i := range 100 {
			items = append(items, fmt.Sprintf("a-s%d:%d", i*step%100, i))
		}
		s.got([]byte(strings.Join(items, ",")))
		e := j.events[len(j.events)-1]
		for i, stat := range e.Collectors[0].Stats {
			if want := fmt.Sprintf("s%d", i*step%100); stat.ID != want || stat.Value != float64(i) {
				t.Fatalf("reading %d is %v, want %s=%d", i, stat, want, i)
			}
		}
	}
	if s.relay.collectors.series != 100 {
		t.Errorf("%d series, want 100", s.relay.collectors.series)
	}
}

func TestEventTimesIncrease(t *testing.T) {
	now := time.Unix(1000, 0)
	s, j := benchSession(t, Options{Now: func() time.Time { return now }}, "a")
	at := func(step time.Duration) int64 {
		now = now.Add(step)
		s.got([]byte("a:1"))
		return j.events[len(j.events)-1].Time
	}
	first := at(0)
	if first != now.UnixNano() {
		t.Errorf("the time of an event is %d, want its arrival %d", first, now.UnixNano())
	}
	if got := at(0); got != first+1 {
		t.Errorf("in the same nanosecond: %d, want just after %d", got, first)
	}
	if got := at(-30 * time.Second); got != first+2 {
		t.Errorf("the clock stepped back a little: %d, want just after %d", got, first+1)
	}
	if got := at(time.Minute); got != now.UnixNano() {
		t.Errorf("the clock has caught up: %d, want %d", got, now.UnixNano())
	}
	// A clock that was far ahead for a moment must not keep the relay's times there.
	at(24 * time.Hour)
	if got := at(-24 * time.Hour); got != now.UnixNano() {
		t.Errorf("the clock was set back a day: %d, want %d", got, now.UnixNano())
	}
	if got := counterValue(t, s.env.m.clockBack); got != 1 {
		t.Errorf("%v steps back were counted, want 1", got)
	}
}

func TestLostReadingsAreCounted(t *testing.T) {
	fail := errors.New("disk full")
	var err error
	j := &fakeJournal{append: func(context.Context, *codec.Event) error { return err }}
	s, _ := benchSession(t, Options{Journal: j}, "a")
	s.got([]byte("a-x:1,a-y:2"))
	err = fail
	s.got([]byte("a-x:1,a-y:2,a-z:3"))
	err = nil
	s.got([]byte("a-x:1"))
	if got := counterValue(t, s.env.m.lost); got != 3 {
		t.Errorf("%v readings lost, want 3", got)
	}
	if got := counterValue(t, s.env.m.readings); got != 3 {
		t.Errorf("%v readings taken, want 3", got)
	}
}

// TestTooLargeEventsAreSplit: no reading is lost because a line is too large for one event of the
// journal.
func TestTooLargeEventsAreSplit(t *testing.T) {
	j := &fakeJournal{append: func(_ context.Context, e *codec.Event) error {
		if e.Readings() > 10 {
			return fmt.Errorf("%w: %d readings", journal.ErrTooLarge, e.Readings())
		}
		return nil
	}}
	var names, items []string
	for i := range 37 {
		names = append(names, fmt.Sprintf("c%d", i))
		items = append(items, fmt.Sprintf("c%d:%d", i, i))
	}
	s, _ := benchSession(t, Options{Journal: j}, names...)
	s.got([]byte(strings.Join(items, ",")))
	if j.readings != 37 || counterValue(t, s.env.m.lost) != 0 {
		t.Errorf("%d readings stored, %v lost; want 37 and none", j.readings, counterValue(t, s.env.m.lost))
	}
	last := int64(0)
	for _, e := range j.events {
		if e.Time <= last {
			t.Errorf("event times do not increase: %d after %d", e.Time, last)
		}
		last = e.Time
	}
	// A single collector that is too large cannot be split.
	j.append = func(context.Context, *codec.Event) error { return journal.ErrTooLarge }
	s.got([]byte("c1:1"))
	if got := counterValue(t, s.env.m.lost); got != 1 {
		t.Errorf("%v lost, want 1", got)
	}
}

func TestBlockedJournalBlocksOnlyItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		j := &fakeJournal{append: func(_ context.Context, e *codec.Event) error {
			if e.Relay == "slow" {
				<-block
			}
			return nil
		}}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		slow, other := w.connect("slow"), w.connect("other")
		slow.add("a")
		other.add("a")
		slow.send("got a:1")
		other.send("got a:1", "ping")
		settle()
		w.wantMetric(1, "readings_total")
		// The relay was not silent, however long the journal takes.
		go slow.send("ping")
		stop := make(chan struct{})
		go other.answer(stop)
		time.Sleep(5 * time.Minute)
		close(block)
		settle()
		for slow.next() != "pong" {
		}
		if r := w.relay("slow"); !r.Connected {
			t.Error("the relay was disconnected because the journal was slow")
		}
		close(stop)
	})
}

func TestGotAllocatesNothing(t *testing.T) {
	s, _ := benchSession(t, Options{Journal: discard{}}, "cpu:service:web1", "ram")
	line := []byte("cpu-used:0.25,cpu-idle:0.75,ram-free:2,ram-used:3,cpu-x:1,ram-y:17.5,cpu-z:1e3,cpu-a:1,cpu-b:2,cpu-c:3")
	s.got(line)
	limit := 1.0
	if raceEnabled {
		limit = 20 // a sync.Pool drops values at random under the race detector
	}
	if n := testing.AllocsPerRun(1000, func() { s.got(line) }); n >= limit {
		t.Errorf("%v allocations a line of ten readings, want none", n)
	}
}

// discard is a journal that accepts everything.
type discard struct{}

func (discard) Append(context.Context, *codec.Event) (uint64, error)                { return 1, nil }
func (discard) Spooled(context.Context, string) (took, past codec.Spool, err error) { return }
func (discard) AppendRelayEvent(context.Context, *codec.RelayEvent) (uint64, error) {
	return 1, nil
}

// FuzzGot checks every input: an event has only finite readings of registered collectors and no
// stat of a collector twice, and every item of the line is either in the event or counted.
func FuzzGot(f *testing.F) {
	for _, line := range []string{"cpu-used:1,ram:2", "cpu:1,cpu:2", "a-b-c:5,,plain:4", "cpu-x:NaN,cpu-x:1e400", "cpu-\xff:1", "ram-a:1,cpu-a:1,ram-b:2", " cpu - x : 1 "} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		s, j := benchSession(t, Options{Limits: Limits{Series: 5}}, "cpu:a:1", "ram")
		s.got(line)
		s.got(line)
		items := 0
		for range relaywire.Readings(line) {
			items++
		}
		if got := j.readings + int(s.relay.counts.Rejected); got != 2*items {
			t.Fatalf("%d readings and %d rejected of two lines with %d items", j.readings, s.relay.counts.Rejected, items)
		}
		last := int64(0)
		for _, e := range j.events {
			if e.Time <= last || e.Relay != "web1" || len(e.Collectors) == 0 {
				t.Fatalf("event %+v after time %d", e, last)
			}
			last = e.Time
			seen := map[string]bool{}
			for _, c := range e.Collectors {
				if s.relay.collectors.find([]byte(c.Name)) == nil || len(c.Stats) == 0 || seen[c.Name] {
					t.Fatalf("collector %+v", c)
				}
				seen[c.Name] = true
				for _, st := range c.Stats {
					key := c.Name + "-" + st.ID
					if seen[key] || math.IsNaN(st.Value) || math.IsInf(st.Value, 0) {
						t.Fatalf("reading %s=%v (twice: %v)", key, st.Value, seen[key])
					}
					seen[key] = true
				}
			}
		}
		if s.relay.collectors.series > 5 {
			t.Fatalf("%d series beyond the limit", s.relay.collectors.series)
		}
	})
}

// TestEventsLeaveRoomForSharedSeries: two collectors share a series (the same stat, the same tags),
// and projections give their readings successive nanoseconds from the event's time on. If the clock
// steps back, the next event comes just after the last one, and must not begin within these
// nanoseconds.
func TestEventsLeaveRoomForSharedSeries(t *testing.T) {
	now := time.Unix(1000, 0)
	s, j := benchSession(t, Options{Now: func() time.Time { return now }}, "c1:service:web", "c2:service:web")
	taken := map[int64]int{}
	for poll := range 3 {
		s.got([]byte("c1-used:1,c2-used:2"))
		e := j.events[len(j.events)-1]
		for n := range 2 {
			if other, there := taken[e.Time+int64(n)]; there {
				t.Errorf("reading %d of poll %d has the time of one of poll %d", n, poll, other)
			}
			taken[e.Time+int64(n)] = poll
		}
		now = now.Add(-10 * time.Second)
	}
}
