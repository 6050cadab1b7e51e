package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/projectortest"
)

// evaluated is an influx.Store over the evaluator of evaluate_test.go.
type evaluated struct {
	mu sync.Mutex
	db database
}

func (e *evaluated) Ping(context.Context) (string, error)       { return "evaluated", nil }
func (e *evaluated) Flush(context.Context, influx.Policy) error { return nil }
func (e *evaluated) Close() error                               { return nil }

func (e *evaluated) Write(_ context.Context, _ influx.Policy, points []influx.Point) (influx.WriteResult, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range points {
		if p.Series.Measurement() != "aggregate" {
			e.addRaw(p)
			continue
		}
		tags := map[string]string{}
		for _, t := range p.Series.Tags() {
			tags[t.Key] = t.Value
		}
		at := slices.IndexFunc(e.db.rows, func(r aggregateRow) bool { return r.time == p.Time && maps.Equal(r.tags, tags) })
		if at < 0 {
			at = len(e.db.rows)
			e.db.rows = append(e.db.rows, aggregateRow{p.Time, tags, map[string]float64{}})
		}
		for _, f := range p.Fields {
			e.db.rows[at].fields[f.Key] = f.Value
		}
	}
	return influx.WriteResult{}, nil
}

// addRaw stores a single reading; one at the same time overwrites.
func (e *evaluated) addRaw(p influx.Point) {
	tags := map[string]string{}
	for _, t := range p.Series.Tags() {
		tags[t.Key] = t.Value
	}
	stat := p.Series.Measurement()
	if rows := e.db.readings[stat]; slices.ContainsFunc(rows, func(r aggregateRow) bool { return r.time == p.Time && maps.Equal(r.tags, tags) }) {
		return // written again
	}
	e.db.addReading(p.Time, tags, stat, p.Fields[0].Value)
}

func (e *evaluated) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.db.query(ctx, statement, params)
}

func (e *evaluated) Read(context.Context, influx.ReadRequest, func(influx.ReadResult) error) error {
	return errors.New("the evaluator answers no /query")
}

// unsteady is a store whose writes may fail, after a part of them was stored.
type unsteady struct {
	influx.Store
	down bool
	rnd  *rand.Rand
}

func (u *unsteady) Write(ctx context.Context, policy influx.Policy, points []influx.Point) (influx.WriteResult, error) {
	if !u.down && u.rnd.IntN(10) > 0 {
		return u.Store.Write(ctx, policy, points)
	}
	if n := u.rnd.IntN(len(points) + 1); n > 0 {
		if _, err := u.Store.Write(ctx, policy, points[:n]); err != nil {
			return influx.WriteResult{}, err
		}
	}
	return influx.WriteResult{}, errors.New("the store is down")
}

// recorded is a journal, aggregates of it, a server that answers from both, and one that answers from
// a recount of the journal.
type recorded struct {
	t        *testing.T
	rnd      *rand.Rand
	interval time.Duration
	clock    time.Time
	journal  *projectortest.Memory
	db       *bbolt.DB
	store    *unsteady
	*influx.Aggregates
	raw         *influx.Raw // of a store that never fails
	reader      projector.Reader
	pending     []journal.Record
	positions   []uint64     // returned since the last start: one of them is saved
	asked       atomic.Int64 // when the servers are asked
	real, model *world
}

func (r *recorded) start(position uint64) {
	var err error
	r.Aggregates, err = influx.NewAggregates(influx.AggregatesOptions{Store: r.store, Journal: r.journal, DB: r.db, Interval: r.interval,
		Now: func() time.Time { return r.clock }})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.raw, err = influx.NewRaw(influx.RawOptions{Store: r.store.Store, Now: func() time.Time { return r.clock }}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.raw.Begin(r.t.Context(), projector.Origin{Position: position}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.Begin(r.t.Context(), projector.Origin{Position: position, First: 1, Last: r.journal.Last()}); err != nil {
		r.t.Fatal(err)
	}
	if r.reader != nil {
		r.reader.Close()
	}
	if r.reader, err = r.journal.ReadFrom(position + 1); err != nil {
		r.t.Fatal(err)
	}
	r.pending, r.positions = nil, []uint64{position}
}

func (r *recorded) event() *codec.Event {
	tags := []string{fmt.Sprint("service:s", r.rnd.IntN(2))}
	return &codec.Event{Relay: fmt.Sprint("web", r.rnd.IntN(4)), Time: r.clock.UnixNano() - int64(r.rnd.IntN(1e6)), Collectors: []codec.Collector{
		{Name: "a", Tags: tags[:r.rnd.IntN(2)], Stats: []codec.Stat{{ID: "cpu", Value: float64(r.rnd.IntN(1000)) / 8}, {ID: "ram", Value: float64(r.rnd.IntN(9))}}}}}
}

// apply applies what there is, and reports whether that is all.
func (r *recorded) apply() bool {
	for r.pending != nil || r.reader.Pending() > 0 {
		if r.pending == nil {
			records, err := r.reader.Read(r.t.Context(), 1+r.rnd.IntN(40))
			if err != nil {
				r.t.Fatal(err)
			}
			r.pending = records
		}
		if _, err := r.raw.Apply(r.t.Context(), r.pending); err != nil {
			r.t.Fatal(err)
		}
		position, err := r.Apply(r.t.Context(), r.pending)
		if err != nil {
			return false
		}
		r.pending, r.positions = nil, append(r.positions, position)
	}
	return true
}

// recordedKey is a window of a series.
type recordedKey struct {
	start         int64
	host, service string
	stat          string
}

func (k recordedKey) tags() map[string]string {
	tags := map[string]string{"host": k.host}
	if k.service != "" {
		tags["service"] = k.service
	}
	return tags
}

// recount makes the rows of all events, as they are when nothing ever fails or stops.
func (r *recorded) recount() *database {
	readings := map[recordedKey][]float64{}
	db := &database{}
	r.journal.Events(func(_ uint64, e *codec.Event) {
		for _, c := range e.Collectors {
			k := recordedKey{start: e.Time - e.Time%int64(r.interval), host: e.Relay}
			if len(c.Tags) > 0 {
				k.service = strings.TrimPrefix(c.Tags[0], "service:")
			}
			for _, s := range c.Stats {
				k.stat = s.ID
				db.addReading(e.Time, k.tags(), s.ID, s.Value)
				readings[k] = append(readings[k], s.Value)
			}
		}
	})
	for k, values := range readings {
		db.addWindow(time.Unix(0, k.start), k.tags(), k.stat, values...)
	}
	return db
}

// compare asks both servers the same things.
func (r *recorded) compare(what string) {
	r.asked.Store(r.clock.Add(time.Minute).UnixNano())
	db := r.recount()
	r.model.influx.query = db.query
	for range 6 {
		v := verbs()[r.rnd.IntN(len(verbs()))]
		if v == "mode" {
			continue // the engine takes any of several modes
		}
		kind, more := []string{"hourly", "daily", "range"}[r.rnd.IntN(3)], ""
		if kind == "range" {
			more = fmt.Sprintf("&step=%d&by=%s", []int{60, 30, 420, 900, 3600}[r.rnd.IntN(5)], []string{"", "host", "service", "service,host"}[r.rnd.IntN(4)])
		}
		path := fmt.Sprintf("/%s/%s?verb=%s%s%s%s", kind, []string{"cpu", "ram"}[r.rnd.IntN(2)], v, more,
			[]string{"", "&start=2h", "&start=40m", "&start=5h&stop=20m"}[r.rnd.IntN(4)],
			[]string{"", "&host=web1", "&host=web1&host=web3", "&service=s0", "&service=", "&host=nobody", "&service=&service=s1&host=web2"}[r.rnd.IntN(7)])
		got, want := r.real.get(r.t, path), r.model.get(r.t, path)
		if got.status != want.status || got.status == 200 && !sameJSON(r.t, got.body, want.body) {
			r.t.Fatalf("%s: %s:\n     %d %s\nwant %d %s", what, path, got.status, got.body, want.status, want.body)
		}
	}
}

// What history answers equals a recount of all that was applied, whatever happens: late readings, a
// clock that steps, failed and half-done writes, kills. Over the evaluator, the engine, and a real
// InfluxDB.
func TestHistoryEqualsARecount(t *testing.T) {
	for name, open := range map[string]func(*testing.T) influx.Store{
		"evaluated": func(*testing.T) influx.Store { return &evaluated{} },
		"embedded": func(t *testing.T) influx.Store {
			s, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"external": func(t *testing.T) influx.Store {
			s, err := influx.OpenExternal(influx.ExternalOptions{Address: testtools.StartInfluxd(t, testtools.InfluxDB18).Addr})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			for seed := range uint64(8) {
				historyEqualsARecount(t, store, seed)
			}
		})
	}
}

func historyEqualsARecount(t *testing.T, store influx.Store, seed uint64) {
	if _, ok := store.(*evaluated); ok {
		store = &evaluated{}
	} else {
		for _, st := range []string{`DROP DATABASE "statistics"`, `CREATE DATABASE "statistics"`, `CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 0s REPLICATION 1`,
			`CREATE RETENTION POLICY "one_day" ON "statistics" DURATION 0s REPLICATION 1`} {
			if _, err := store.Query(t.Context(), st, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "pulse.db"), 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := &recorded{t: t, rnd: rnd, interval: []time.Duration{15 * time.Minute, time.Minute}[rnd.IntN(2)], clock: testNow.Add(-4 * time.Hour),
		journal: projectortest.NewMemory(), db: db, store: &unsteady{store, false, rnd}}
	r.start(0)
	defer func() { r.reader.Close() }()
	options := func(o *Options) {
		o.AggregateInterval, o.Now = r.interval, func() time.Time { return time.Unix(0, r.asked.Load()).UTC() }
		o.Compat = []string{"", Compat02}[seed%2]
		o.RawRetention = 90 * time.Minute
	}
	r.model = startWorld(t, options)
	r.real = startWorld(t, func(o *Options) {
		options(o)
		o.Windows, o.Stored = r, influx.Clean
	})
	r.real.influx.query = store.Query
	for _, w := range []*world{r.real, r.model} {
		w.latest.stats, w.latest.tagKeys = []string{"cpu", "ram"}, []string{"host", "service"}
		var known []latest.Reading // /range asks about names that an empty answer has
		for i := range 8 {
			known = append(known, latest.Reading{Tags: []latest.Tag{{Key: "host", Value: fmt.Sprint("web", i/2)}, {Key: "service", Value: fmt.Sprint("s", i%2)}}})
		}
		w.latest.readings = map[string][]latest.Reading{"cpu": known, "ram": known}
	}
	for range 60 {
		what := ""
		switch n := rnd.IntN(100); {
		case n < 50:
			what = "readings"
			for range rnd.IntN(20) {
				r.clock = r.clock.Add(time.Duration(rnd.IntN(30_000)) * time.Millisecond)
				r.journal.Append(r.event())
			}
		case n < 70:
			what = "ticks"
			for range 1 + rnd.IntN(90) {
				r.clock = r.clock.Add(time.Second)
				if r.pending == nil {
					if position, err := r.Tick(t.Context(), r.clock); err == nil {
						r.positions = append(r.positions, position)
					}
				}
			}
		case n < 75:
			what = "the clock steps back"
			r.clock = r.clock.Add(-time.Duration(rnd.IntN(30)) * time.Minute)
		case n < 80:
			what = "late readings"
			late := r.event()
			late.Time -= rnd.Int64N(int64(time.Hour))
			r.journal.Append(late)
		case n < 85:
			what = "InfluxDB goes away, or comes back"
			r.store.down = !r.store.down
		case n < 95:
			what = "kill -9"
			r.start(r.positions[rnd.IntN(len(r.positions))])
		default:
			what = "a stop and a start"
			r.store.down = false
			for !r.apply() {
			}
			position, err := r.Flush(t.Context(), r.clock)
			if err != nil {
				continue
			}
			r.start(position)
		}
		if r.apply() {
			r.compare(fmt.Sprintf("seed %d, after %s", seed, what))
		}
	}
}

// openWindows answers Unwritten with the same rows and ranges.
type openWindows struct {
	rows   []influx.WindowRow
	ranges []influx.TimeRange
}

func (o *openWindows) Unwritten(_ string, from, to int64, visit func(influx.WindowRow)) []influx.TimeRange {
	for _, r := range o.rows {
		if r.Time >= from && r.Time < to {
			visit(r)
		}
	}
	return o.ranges
}

// Rows of Pulse 0.2 that lie within an open window of ours are in the answer, and InfluxDB's row of
// that window is not.
func TestMeansOf02WithinAnOpenWindow(t *testing.T) {
	hour := testNow.Truncate(time.Hour)
	open := &openWindows{
		rows:   []influx.WindowRow{{Time: hour.UnixNano(), Tags: []influx.Tag{{Key: "host", Value: "web1"}}, Mean: 10, Count: 2, Sum: 20, Min: 8, Max: 12, Last: 12}},
		ranges: []influx.TimeRange{{From: hour.UnixNano(), To: testNow.UnixNano()}},
	}
	w := startWorld(t, func(o *Options) {
		o.Windows, o.MeansUntil = open, func() int64 { return testNow.Add(-time.Minute).UnixNano() }
	})
	db := &database{}
	w.influx.query = db.query
	db.addWindow(hour, map[string]string{"host": "web1"}, "cpu", 100) // older than what memory has
	db.addOld(hour.Add(5*time.Minute), map[string]string{"host": "old"}, "cpu", 40)
	w.get(t, "/hourly/cpu?start=1m").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":25}]`+"\n", hour.Unix()))
	w.get(t, "/hourly/cpu?start=1m&host=web1").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":10}]`+"\n", hour.Unix()))
	w.get(t, "/hourly/cpu?start=1m&verb=max").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":12}]`+"\n", hour.Unix()))
}

// Sums that are more than a float64 holds are computed from scaled means, those in memory too.
func TestHugeReadingsInAnOpenWindow(t *testing.T) {
	hour := testNow.Truncate(time.Hour)
	at := hour.Add(15 * time.Minute)
	open := &openWindows{
		rows:   []influx.WindowRow{{Time: at.UnixNano(), Mean: 1.5e308, Count: 2, Sum: math.MaxFloat64, Min: 1.5e308, Max: 1.5e308, Last: 1.5e308}},
		ranges: []influx.TimeRange{{From: at.UnixNano(), To: hour.Add(time.Hour).UnixNano()}},
	}
	e := newEngine(t, func(o *Options) { o.Windows = open })
	e.db.addWindow(hour, nil, "cpu", 1e308, 1e308)
	e.db.rows[0].fields["cpu"], e.db.rows[0].fields["cpu:sum"] = 1e308, math.MaxFloat64
	e.write(t)
	e.get(t, "/hourly/cpu?start=1m").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":1.25e+308}]`+"\n", hour.Unix()))
}
