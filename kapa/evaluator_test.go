package kapa

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEvaluatorFiresOnChangeOnly(t *testing.T) {
	s := newSim(t)
	id := s.create(quick())
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 50); s.send("web2", "cpu_used", 100); s.send("web1", "ram", 100) })
	s.expect()
	s.run(3*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	if posts := s.posts(); len(posts) != 1 {
		t.Fatalf("posted: %s", words(posts))
	}
	// The mean of 60 s is 70 at 30 s after the readings change, and 90 at 60 s.
	m := s.posts()[0]
	if want := time.Date(2026, 11, 23, 12, 2, 0, 0, time.UTC); m.Message != "[web1] cpu_used is CRITICAL value:90" || !m.Time.Equal(want) ||
		m.PreviousLevel != "OK" || m.Duration != 0 || m.Data.Series[0].Values[0][1] != 90.0 {
		t.Errorf("%+v", m)
	}
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10) })
	s.expect("[web1] cpu_used is CRITICAL value:90", "[web1] cpu_used is OK value:50")
	if m := s.posts()[1]; m.PreviousLevel != "CRITICAL" || m.Level != "OK" || m.Duration != 210*time.Second {
		t.Errorf("%+v", m)
	}
	if v, err := s.a.Get(id); err != nil || v.Status.Level != "OK" || v.Status.State != Executing || v.Status.Undelivered != 2 || v.Status.Since == nil {
		t.Errorf("%+v, %v", v.Status, err)
	}
}

func TestEvaluatorOperatorsAndHysteresis(t *testing.T) {
	number := func(n Number) *Number { return &n }
	for _, tt := range []struct {
		op      Operator
		quiet   *Number
		values  []float64 // one for each evaluation
		changes string    // F: begins to fire, o: is over, .: no change
	}{
		{Greater, nil, []float64{80, 81, 80, 81}, ".FoF"},
		{GreaterOrEqual, nil, []float64{79, 80, 79}, ".Fo"},
		{Less, nil, []float64{80, 79, 80}, ".Fo"},
		{LessOrEqual, nil, []float64{81, 80, 81}, ".Fo"},
		{Equal, nil, []float64{81, 80, 81}, ".Fo"},
		{NotEqual, nil, []float64{80, 81, 80}, ".Fo"},
		{Greater, number(60), []float64{81, 70, 61, 60, 70, 81}, "F..o.F"},
		{Less, number(90), []float64{79, 85, 90, 85}, "F.o."},
	} {
		t.Run(fmt.Sprint(tt.op, tt.quiet != nil), func(t *testing.T) {
			s := newSim(t)
			a := quick()
			a.Operator, a.Recover, a.Duration = tt.op, tt.quiet, 30*second
			s.create(a)
			got := ""
			for _, v := range tt.values {
				before := len(s.posts())
				s.run(30*time.Second, func() { s.send("web1", "cpu_used", v) })
				s.save(s.e.Tick(t.Context(), s.now.Add(grace)))
				posts := s.posts()
				switch {
				case len(posts) == before:
					got += "."
				case posts[before].Level == "OK":
					got += "o"
				default:
					got += "F"
				}
			}
			if got != tt.changes {
				t.Errorf("%s, want %s; %s", got, tt.changes, words(s.posts()))
			}
		})
	}
}

// A silent relay has no value, so nothing changes, whatever the operator.
func TestEvaluatorSilenceIsNoValue(t *testing.T) {
	s := newSim(t)
	low := quick()
	low.Operator, low.Threshold = Less, 10
	s.create(low)
	s.create(quick())
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	s.expect("[web1] cpu_used is CRITICAL value:90")
	s.run(time.Hour, nil)
	s.expect("[web1] cpu_used is CRITICAL value:90")
}

func TestEvaluatorTags(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Tags = map[string]string{"service": "shop", "zone": "a:b"}
	s.create(a)
	a.Tags = nil
	a.Metric = "all"
	s.create(a)
	s.run(2*time.Minute, func() {
		s.send("web1", "cpu_used", 100, "bare", "service:shop", "service:other", "zone:a:b") // only a key's first tag counts
		s.send("web2", "cpu_used", -900, "service:other", "service:shop", "zone:a:b")
		s.send("web2", "cpu_used", -900, "service:shop")
		s.send("web2", "cpu_used", -900)
		s.send("web1", "all", 100)
		s.send("web2", "all", 80, "host:web9")
	})
	got := s.posts()
	slices.SortFunc(got, func(a, b message) int { return strings.Compare(a.Message, b.Message) })
	if w := words(got); w != "[*] all is CRITICAL value:90; [service:shop,zone:a:b] cpu_used is CRITICAL value:100" {
		t.Error(w)
	}
}

// The host is the relay's id, whatever tags the relay sends.
func TestEvaluatorHostIsTheRelay(t *testing.T) {
	s := newSim(t)
	s.create(quick())
	s.run(2*time.Minute, func() { s.send("liar", "cpu_used", 99, "host:web1"); s.send("web1", "cpu_used", 1, "host:x") })
	s.expect()
}

// wave returns a value that crosses 80 from time to time, so that an alert fires and ends.
func wave(second int) float64 { return 75 + 25*math.Sin(float64(second)/40) }

// The posts are the same, however often and at whatever moments the process is killed, and however
// old the saved position is.
func TestEvaluatorKilledAnywhere(t *testing.T) {
	play := func(t *testing.T, lazy func(i int) bool, kill func(i int) bool) string {
		s := newSim(t)
		s.create(quick())
		i := 0
		for range 600 {
			s.lazy = lazy(i)
			s.send("web1", "cpu_used", wave(i))
			i++
			s.now = s.now.Add(time.Second)
			if kill(i) {
				s.kill() // with a record that was not read
				s.start()
			}
			s.step()
		}
		return words(s.posts())
	}
	never := func(int) bool { return false }
	want := play(t, never, never)
	if n := strings.Count(want, ";"); n < 4 {
		t.Fatalf("the test says nothing: %s", want)
	}
	for _, n := range []int{1, 2, 7, 29, 30, 31, 100} {
		if got := play(t, never, func(i int) bool { return i%n == 0 }); got != want {
			t.Errorf("killed every %d s: %s\nwant %s", n, got, want)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		if got := play(t, func(int) bool { return random.IntN(3) > 0 }, func(int) bool { return random.IntN(20) == 0 }); got != want {
			t.Errorf("killed at random: %s\nwant %s", got, want)
		}
	}
}

// A state file that cannot be written only delays the posts. In the end no post is missing and none
// is there twice.
func TestEvaluatorStateFileFails(t *testing.T) {
	run := func(broken bool) string {
		s := newSim(t)
		s.create(quick())
		for i := range 640 {
			s.send("web1", "cpu_used", wave(i))
			s.now = s.now.Add(time.Second)
			if broken && i%50 > 40 {
				if s.db.Path() != "" {
					s.kill()
				}
				position, err := s.e.Apply(t.Context(), s.records[s.read:])
				_ = position
				if err == nil {
					s.read = len(s.records) // nothing was due
				}
				continue
			}
			if broken && i%50 == 0 && i > 0 {
				s.db = openDB(t, s.path)
				s.a.store.db = s.db
			}
			s.step()
		}
		return words(s.posts())
	}
	if got, want := run(true), run(false); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// After an outage of Pulse the evaluator reads everything that the journal still holds. It does not
// post each old change.
func TestEvaluatorAfterAnOutage(t *testing.T) {
	s := newSim(t)
	s.create(quick())
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10) })
	s.expect()
	s.kill()
	// The journal continues for an hour with many changes, while the projection does not read.
	for i := range 3600 {
		s.send("web1", "cpu_used", wave(i))
		s.now = s.now.Add(time.Second)
	}
	for range 120 {
		s.send("web1", "cpu_used", 95)
		s.now = s.now.Add(time.Second)
	}
	s.start()
	// The records come in small batches, with ticks in between, as from the runner.
	for s.read < len(s.records) {
		end := min(s.read+100, len(s.records))
		s.save(s.e.Apply(t.Context(), s.records[s.read:end]))
		s.read = end
		s.save(s.e.Tick(t.Context(), s.now))
	}
	s.expect("[web1] cpu_used is CRITICAL value:95")
	// A week without records and then some more readings cause no post.
	s.kill()
	s.now = s.now.Add(7 * 24 * time.Hour)
	s.start()
	began := time.Now()
	s.run(time.Minute, func() { s.send("web1", "cpu_used", 95) })
	s.expect("[web1] cpu_used is CRITICAL value:95")
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("a week took %v", took)
	}
}

// A restart that takes many times `every` is not an outage. All changes that were journaled before
// the restart and are evaluated after it are posted.
func TestEvaluatorToldAfterARestart(t *testing.T) {
	s := newSim(t)
	a := quick()
	a.Duration, a.Every = second, second
	s.create(a)
	s.run(10*time.Second, func() { s.send("web1", "cpu_used", 10) })
	for _, value := range []float64{90, 90, 10, 10} {
		s.send("web1", "cpu_used", value) // in the journal, but not read yet
		s.now = s.now.Add(time.Second)
	}
	s.kill()
	s.now = s.now.Add(20 * time.Second)
	s.start()
	s.step()
	s.expect("[web1] cpu_used is CRITICAL value:90", "[web1] cpu_used is OK value:10")
}

// The result of old records is posted when the evaluator has caught up, even if no reading comes
// any more.
func TestEvaluatorTellsTheOutcomeOfABacklog(t *testing.T) {
	s := newSim(t)
	s.create(quick())
	s.run(time.Minute, func() { s.send("web1", "cpu_used", 10) })
	for range 120 {
		s.send("web1", "cpu_used", 95)
		s.now = s.now.Add(time.Second)
	}
	s.now = s.now.Add(time.Hour)
	s.step()
	s.expect("[web1] cpu_used is CRITICAL value:95")
	s.run(time.Minute, nil)
	s.expect("[web1] cpu_used is CRITICAL value:95")
}

// The position moves past records that no window needs, and stays before those that a window needs.
func TestEvaluatorPosition(t *testing.T) {
	s := newSim(t)
	s.run(time.Minute, func() { s.send("web1", "cpu_used", 10) })
	if s.saved != 60 {
		t.Errorf("without alerts the position is %d of 60", s.saved)
	}
	id := s.create(quick())
	s.run(10*time.Minute, func() { s.send("web1", "cpu_used", 10) })
	if behind := len(s.records) - int(s.saved); behind < 60 || behind > 110 {
		t.Errorf("%d records will be read again for a window of 60", behind)
	}
	if w := s.e.watches[id]; len(w.only.window.slots) > 4 || len(s.e.marks.list) > 20 {
		t.Errorf("%d slots and %d marks are kept", len(w.only.window.slots), len(s.e.marks.list))
	}
	if err := s.a.Delete(id); err != nil {
		t.Fatal(err)
	}
	s.run(time.Second, func() { s.send("web1", "cpu_used", 10) })
	if s.saved != uint64(len(s.records)) {
		t.Errorf("the position is %d of %d", s.saved, len(s.records))
	}
}

// Alerts still fire after a clock that was a day ahead is set back.
func TestEvaluatorClockSetBack(t *testing.T) {
	s := newSim(t)
	s.create(quick())
	s.now = s.now.Add(24 * time.Hour)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 10) })
	s.now = s.now.Add(-24 * time.Hour)
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	s.expect("[web1] cpu_used is CRITICAL value:90")
}

func TestEvaluatorHostileNames(t *testing.T) {
	s := newSim(t)
	want := map[string]bool{}
	for _, name := range sendable() {
		a := quick()
		a.Metric, a.Tags = name, map[string]string{"k" + name: name, "host": name}
		s.create(a)
		want["["+name+"] "+name] = true
	}
	s.run(2*time.Minute, func() {
		for _, name := range sendable() {
			s.send(name, name, 90, "k"+name+":"+name)
		}
	})
	for _, m := range s.posts() {
		if m.Message != m.ID+" is CRITICAL value:90" || !want[m.ID] {
			t.Errorf("%+v", m)
		}
		delete(want, m.ID)
	}
	for id := range want {
		t.Errorf("%s did not fire", id)
	}
}

// Means stay finite, whatever values are added.
func TestEvaluatorHugeValues(t *testing.T) {
	s := newSim(t)
	s.create(quick())
	s.run(2*time.Minute, func() { s.send("web1", "cpu_used", math.MaxFloat64) })
	s.expect(fmt.Sprint("[web1] cpu_used is CRITICAL value:", math.MaxFloat64))
}

// A mean is never beyond its readings, neither if their sum exceeds a float64 nor if their sum was
// rounded.
func TestEvaluatorMeanIsWithinTheReadings(t *testing.T) {
	for value, threshold := range map[float64]Number{1e308: 1.5e308, 0.1: 0.1} {
		s := newSim(t)
		a := quick()
		a.Threshold, a.Every = threshold, 30*second
		s.create(a)
		a.Operator, a.Tags = Less, map[string]string{"host": "web2"}
		a.Threshold = Number(value)
		s.create(a)
		// There are slots of 30 s with many readings, and windows of several slots.
		s.run(3*time.Minute, func() {
			for range 32 {
				s.send("web1", "cpu_used", value)
				s.send("web2", "cpu_used", value)
			}
		})
		s.expect()
	}
}

// What comes late from a relay's spool is about the past: it neither fires an alert nor ends one.
func TestEvaluatorPassesThePastOver(t *testing.T) {
	s := newSim(t)
	id := s.create(quick())
	past := func(value float64) {
		s.send("web1", "cpu_used", value)
		e := s.records[len(s.records)-1].Event
		e.Past, e.Time = true, e.Time-int64(time.Second)
	}
	s.run(3*time.Minute, func() {
		s.send("web1", "cpu_used", 10)
		for range 20 { // an outage is handed over
			past(1000)
		}
	})
	s.expect()
	s.run(3*time.Minute, func() { s.send("web1", "cpu_used", 90); past(0) })
	s.expect("[web1] cpu_used is CRITICAL value:90")
	if v, err := s.a.Get(id); err != nil || v.Status.Value == nil || *v.Status.Value != 90 {
		t.Errorf("%+v, %v", v.Status, err)
	}
}
