package influx

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
)

var (
	_ projector.Projection = (*Raw)(nil)
	_ projector.Beginner   = (*Raw)(nil)
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func stat(id string, v float64) codec.Stat { return codec.Stat{ID: id, Value: v} }

func event(relay string, at time.Time, tags []string, stats ...codec.Stat) *codec.Event {
	return &codec.Event{Relay: relay, Time: at.UnixNano(), Collectors: []codec.Collector{{Name: "c", Tags: tags, Stats: stats}}}
}

// batch makes records of events, numbered from first.
func batch(first uint64, events ...*codec.Event) []journal.Record {
	var records []journal.Record
	for i, e := range events {
		records = append(records, journal.Record{Seq: first + uint64(i), Event: e})
	}
	return records
}

func counted(tb testing.TB, reg *prometheus.Registry, name string) float64 {
	tb.Helper()
	for _, f := range must(reg.Gather()) {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	tb.Fatalf("no metric %s", name)
	return 0
}

func rawOver(store *fakeStore, o RawOptions) *Raw {
	o.Store = store
	if o.Now == nil {
		o.Now = func() time.Time { return noon }
	}
	return must(NewRaw(o))
}

func TestRawPoints(t *testing.T) {
	store := newFakeStore()
	reg := prometheus.NewRegistry()
	r := rawOver(store, RawOptions{Retention: 8 * time.Hour, Registerer: reg})
	twice := &codec.Event{Relay: "web1", Time: noon.UnixNano(), Collectors: []codec.Collector{
		{Name: "a", Tags: []string{"service:x", "guy", "host:liar"}, Stats: []codec.Stat{stat("used", 1), stat("used", 2), stat("idle", 3)}},
		{Name: "b", Tags: []string{"service:x"}, Stats: []codec.Stat{stat("used", 4)}},
		{Name: "c", Stats: []codec.Stat{stat("used", 5)}},
	}}
	records := batch(1, twice, event("web2", noon.Add(-9*time.Hour), nil, stat("used", 6), stat("idle", 6)), event("web2", noon.Add(-7*time.Hour), nil, stat("used", 7)))
	records = append(records, journal.Record{Seq: 4, Relay: &codec.RelayEvent{}}, journal.Record{Seq: 5, Err: codec.ErrDecode})
	for range 2 { // the second time is a replay
		if seq, err := r.Apply(t.Context(), records); err != nil || seq != 5 {
			t.Fatalf("Apply returned %d, %v", seq, err)
		}
		at := noon.UnixNano()
		store.want(t, PolicyRaw, "used,host=web1,service=x", at, "used", 1)
		store.want(t, PolicyRaw, "used,host=web1,service=x", at+1, "used", 2)
		store.want(t, PolicyRaw, "used,host=web1,service=x", at+2, "used", 4)
		store.want(t, PolicyRaw, "idle,host=web1,service=x", at, "idle", 3)
		store.want(t, PolicyRaw, "used,host=web1", at, "used", 5)
		store.want(t, PolicyRaw, "used,host=web2", noon.Add(-7*time.Hour).UnixNano(), "used", 7)
		if n := store.len(); n != 6 {
			t.Fatalf("%d points, want 6", n)
		}
		if err := r.Begin(t.Context(), projector.Origin{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := counted(t, reg, "pulse_projector_readings_expired_total"); n != 4 {
		t.Errorf("%v expired readings counted in two passes, want 4", n)
	}
	if n := counted(t, reg, "pulse_projector_points_written_total"); n != 12 {
		t.Errorf("%v points counted, want 12", n)
	}
}

func TestRawGoesOnInsideABatchThatFailed(t *testing.T) {
	store := newFakeStore()
	reg := prometheus.NewRegistry()
	r := rawOver(store, RawOptions{Registerer: reg})
	var records []journal.Record
	for i := range 30 {
		e := event(fmt.Sprint("web", i), noon, nil)
		for s := range 1000 {
			e.Collectors[0].Stats = append(e.Collectors[0].Stats, stat(fmt.Sprint("s", s), 1))
		}
		records = append(records, journal.Record{Seq: uint64(i + 1), Event: e})
	}
	store.before = func([]Point) (int, error) {
		if store.writes%3 == 0 { // either of the two writes of a pair, in turn
			return 10, errDown
		}
		return 0, nil
	}
	tries := 0
	for {
		tries++
		seq, err := r.Apply(t.Context(), records)
		if err == nil && seq == 30 {
			break
		}
		if !errors.Is(err, errDown) || tries > 100 {
			t.Fatalf("try %d: %d, %v", tries, seq, err)
		}
	}
	if n := store.len(); n != 30_000 {
		t.Fatalf("%d points, want 30,000", n)
	}
	for _, n := range store.sizes {
		if n > writePoints/2+1000 {
			t.Errorf("a write of %d points", n)
		}
	}
	if tries > 7 {
		t.Errorf("it took %d tries of 6 writes of which every other fails: what was written is written again", tries)
	}
	if n := counted(t, reg, "pulse_projector_points_written_total"); n != 30_000 {
		t.Errorf("%v points counted", n)
	}
}

func TestRawStoreErrors(t *testing.T) {
	records := batch(7, event("web1", noon, nil, stat("used", 1)))
	t.Run("schema gone", func(t *testing.T) {
		store := newFakeStore()
		made := 0
		r := rawOver(store, RawOptions{EnsureSchema: func(context.Context) error { made++; return nil }})
		store.before = func([]Point) (int, error) {
			if made < 2 {
				return 0, &Error{Kind: Schema, Err: errors.New("database not found")}
			}
			return 0, nil
		}
		if seq, err := r.Apply(t.Context(), records); err != nil || seq != 7 {
			t.Fatalf("%d, %v", seq, err)
		}
		if made != 2 || store.len() != 1 {
			t.Fatalf("the schema was made %d times, %d points", made, store.len())
		}
	})
	t.Run("schema cannot be made", func(t *testing.T) {
		store := newFakeStore()
		down := true
		r := rawOver(store, RawOptions{EnsureSchema: func(context.Context) error {
			if down {
				return errDown
			}
			return nil
		}})
		if _, err := r.Apply(t.Context(), records); !errors.Is(err, errDown) || store.writes != 0 {
			t.Fatalf("%v after %d writes", err, store.writes)
		}
		down = false
		if _, err := r.Apply(t.Context(), records); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("schema stays away", func(t *testing.T) {
		store := newFakeStore()
		made := 0
		r := rawOver(store, RawOptions{EnsureSchema: func(context.Context) error { made++; return nil }})
		store.before = fail(&Error{Kind: Schema, Err: errors.New("retention policy not found")})
		for range 3 {
			if _, err := r.Apply(t.Context(), records); KindOf(err) != Schema {
				t.Fatal(err)
			}
		}
		if made < 4 {
			t.Fatalf("made %d times only", made)
		}
	})
	t.Run("auth", func(t *testing.T) {
		store := newFakeStore()
		store.before = fail(&Error{Kind: Auth, Status: 401, Err: errors.New("authorization failed")})
		_, err := rawOver(store, RawOptions{}).Apply(t.Context(), records)
		if KindOf(err) != Auth {
			t.Fatalf("the error does not say so: %v", err)
		}
	})
	t.Run("beyond retention", func(t *testing.T) {
		store := newFakeStore()
		store.oldest = noon.UnixNano() + 1
		reg := prometheus.NewRegistry()
		if seq, err := rawOver(store, RawOptions{Registerer: reg}).Apply(t.Context(), records); err != nil || seq != 7 {
			t.Fatalf("%d, %v", seq, err)
		}
		if n := counted(t, reg, "pulse_projector_points_dropped_total"); n != 1 {
			t.Fatalf("%v counted", n)
		}
	})
}

// storeThatRefusesBad returns a store that refuses the readings of the stat bad.
func storeThatRefusesBad() *fakeStore {
	store := newFakeStore()
	store.refuse = func(p *Point) string {
		if p.Fields[0].Key == "bad" {
			return "field type conflict"
		}
		return ""
	}
	return store
}

func TestRawRefusedPointsAreFoundListedAndLeftAlone(t *testing.T) {
	store := storeThatRefusesBad()
	now := noon
	db := openDB(t)
	rejects := projector.NewRejects(db)
	reg := prometheus.NewRegistry()
	r := rawOver(store, RawOptions{Rejects: rejects, Registerer: reg, Now: func() time.Time { return now }})
	var events []*codec.Event
	for i := range 100 {
		s := stat("good", float64(i))
		if i == 17 || i == 63 {
			s = stat("bad", 1)
		}
		events = append(events, event(fmt.Sprint("web", i), noon, nil, s, stat("also_good", 1)))
	}
	if seq, err := r.Apply(t.Context(), batch(1, events...)); err != nil || seq != 100 {
		t.Fatalf("%d, %v", seq, err)
	}
	if n := store.len(); n != 198 {
		t.Fatalf("%d points are stored, want 198", n)
	}
	list := must(rejects.List())
	if len(list) != 2 {
		t.Fatalf("listed %+v", list)
	}
	seqs := map[uint64]projector.Reject{list[0].Seq: list[0], list[1].Seq: list[1]}
	if rej := seqs[18]; rej.Projection != "influx_raw" || rej.Relay != "web17" || rej.Stat != "bad" || rej.Reason != "field type conflict" {
		t.Errorf("listed %+v", rej)
	}
	if _, ok := seqs[64]; !ok {
		t.Errorf("listed %+v", list)
	}
	if n := counted(t, reg, "pulse_projector_points_refused_total"); n != 2 {
		t.Errorf("%v refused points counted", n)
	}
	// In the next batch the two series are not offered, so that no search is needed.
	before := store.writes
	if _, err := r.Apply(t.Context(), batch(101, events...)); err != nil {
		t.Fatal(err)
	}
	if store.writes != before+1 || counted(t, reg, "pulse_projector_readings_refused_total") != 2 {
		t.Errorf("%d writes for the second batch", store.writes-before)
	}
	// Ten minutes later they are offered again, and stored.
	now = now.Add(refusedFor + time.Second)
	store.refuse = nil
	if _, err := r.Apply(t.Context(), batch(201, events...)); err != nil {
		t.Fatal(err)
	}
	if n := store.len(); n != 200 {
		t.Errorf("%d points", n)
	}
}

func TestRawRefusedEverythingOrTooMuchToSearch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refuse func(i int) bool
		writes int
		listed int
	}{
		{"all: no search", func(int) bool { return true }, 1, listedRefusals + 1},
		{"every other", func(i int) bool { return i%2 == 0 }, 1 + searchWrites, 0},
	} {
		store := newFakeStore()
		store.refuse = func(p *Point) string {
			var i int
			fmt.Sscan(p.Fields[0].Key[1:], &i)
			if tt.refuse(i) {
				return "max-values-per-tag limit exceeded (100000/100000)"
			}
			return ""
		}
		rejects := projector.NewRejects(openDB(t))
		reg := prometheus.NewRegistry()
		r := rawOver(store, RawOptions{Rejects: rejects, Registerer: reg})
		var stats []codec.Stat
		for i := range 2000 {
			stats = append(stats, stat(fmt.Sprint("s", i), 1))
		}
		if seq, err := r.Apply(t.Context(), batch(5, event("web1", noon, nil, stats...))); err != nil || seq != 5 {
			t.Fatalf("%s: %d, %v", tt.name, seq, err)
		}
		if store.writes > tt.writes {
			t.Errorf("%s: %d writes, want %d", tt.name, store.writes, tt.writes)
		}
		list := must(rejects.List())
		if len(list) == 0 || tt.listed > 0 && len(list) != tt.listed {
			t.Errorf("%s: %d listed", tt.name, len(list))
		}
		if n := counted(t, reg, "pulse_projector_series_limit_total"); n != 1 {
			t.Errorf("%s: the alarm's counter is %v", tt.name, n)
		}
	}
}

// Series that are not seen for ten minutes are forgotten, and with them their refusals. A refusal
// also goes when its time is over.
func TestRawForgets(t *testing.T) {
	store := storeThatRefusesBad()
	now := noon
	r := rawOver(store, RawOptions{Now: func() time.Time { return now }})
	seq := uint64(0)
	apply := func(events ...*codec.Event) {
		t.Helper()
		if _, err := r.Apply(t.Context(), batch(seq+1, events...)); err != nil {
			t.Fatal(err)
		}
		seq += uint64(len(events))
	}
	expect := func(series, refused int) {
		t.Helper()
		if r.w.cache.Len() != series || len(r.w.refused) != refused {
			t.Fatalf("at %v: %d series and %d refusals, want %d and %d", now.Sub(noon), r.w.cache.Len(), len(r.w.refused), series, refused)
		}
	}
	web1 := func(sets ...string) {
		t.Helper()
		e := &codec.Event{Relay: "web1", Time: noon.Add(now.Sub(noon) % time.Hour).UnixNano()}
		for _, set := range sets {
			e.Collectors = append(e.Collectors, codec.Collector{Name: set, Tags: []string{"set:" + set}, Stats: []codec.Stat{stat("good", 1), stat("bad", 1)}})
		}
		apply(e)
		for _, set := range sets {
			store.want(t, PolicyRaw, "good,host=web1,set="+set, e.Time, "good", 1)
		}
	}
	apply(event("gone", noon, nil, stat("good", 1), stat("bad", 1)))
	web1("a", "b", "c")
	expect(8, 4)
	for range 4 {
		now = now.Add(refusedFor / 4)
		if now.Sub(noon) == refusedFor {
			store.refuse = nil
		}
		web1("b", "c")
	}
	expect(4, 0) // the relay and the set a are forgotten, and the refusals are over
	web1("b", "c", "d")
	web1("b", "c", "d")
	expect(6, 0)
}

func BenchmarkRawFold(b *testing.B) {
	r := must(NewRaw(RawOptions{Store: nullStore{}}))
	records := fleetRecords(1000, 10, noon)
	n := 0
	for b.Loop() {
		for i := range records {
			records[i].Seq = r.w.done + uint64(i) + 1
		}
		if _, err := r.Apply(b.Context(), records); err != nil {
			b.Fatal(err)
		}
		n += 10_000
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/reading")
}
