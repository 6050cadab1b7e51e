package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// A count holds what InfluxDB should hold according to the journal.
type count struct {
	events int
	last   uint64                // the journal's last sequence
	raw    map[string]float64    // host, stat and time → value
	rows   map[string]aggregates // host, stat and window → fields
}

type aggregates struct{ mean, count, sum, min, max, last float64 }

const window = time.Minute

func key(host, stat string, ns int64) string { return fmt.Sprintf("%s %s %d", host, stat, ns) }

// hostOf names a relay in a count: by its id, and in front of it the edge that it belongs to.
func hostOf(edge, host string) string {
	if edge == "" {
		return host
	}
	return edge + "/" + host
}

// recount reads the whole journal of a stopped server and calculates, in the simplest way, what
// InfluxDB should hold. It fails the test if an event is there twice.
func recount(t *testing.T, dir string) *count {
	t.Helper()
	c := &count{raw: make(map[string]float64), rows: make(map[string]aggregates)}
	polls := make(map[string]map[float64]bool)
	c.last = readJournal(t, dir, func(_ uint64, e *codec.Event) { c.add(t, e, polls) })
	return c
}

// readJournal visits every event in the journal of a stopped server and returns the journal's last
// sequence.
func readJournal(t *testing.T, dir string, visit func(seq uint64, e *codec.Event)) uint64 {
	t.Helper()
	return readRecords(t, dir, func(r *journal.Record) {
		if r.Event != nil {
			visit(r.Seq, r.Event)
		}
	}, nil)
}

// readRecords visits every record in the journal of a stopped server, as readJournal does. A record is
// valid until visit returns. A gap fails the test unless miss takes it.
func readRecords(t *testing.T, dir string, visit func(r *journal.Record), miss func(*journal.GapError)) uint64 {
	t.Helper()
	state, err := migrations.Open(dir, migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	j, err := journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dir, "journal"), Marker: journal.BoltMarker(state.DB)})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(context.Background())
	end, err := j.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := j.ReadFrom(max(end.FirstSeq, 1)) // a gap before the first event is not missed
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for seq := uint64(0); seq < end.LastSeq; {
		records, err := r.Read(t.Context(), 1000)
		if gap, ok := errors.AsType[*journal.GapError](err); ok && miss != nil {
			miss(gap)
			seq = gap.To
			continue
		}
		if err != nil {
			t.Fatalf("reading the journal after %d: %v", seq, err)
		}
		for i := range records {
			seq = records[i].Seq
			if err := records[i].Err; err != nil {
				t.Errorf("record %d: %v", seq, err)
			}
			visit(&records[i])
		}
	}
	return end.LastSeq
}

func (c *count) add(t *testing.T, e *codec.Event, polls map[string]map[float64]bool) {
	c.events++
	host := hostOf(e.Edge, e.Relay)
	for _, collector := range e.Collectors {
		for _, s := range collector.Stats {
			if s.ID == "stat_0" { // its value is the number of the relay's poll
				if polls[host] == nil {
					polls[host] = make(map[float64]bool)
				}
				if polls[host][s.Value] {
					t.Errorf("poll %v of %s is in the journal twice", s.Value, host)
				}
				polls[host][s.Value] = true
			}
			c.raw[key(host, s.ID, e.Time)] = s.Value
			k := key(host, s.ID, e.Time-e.Time%int64(window))
			row, ok := c.rows[k]
			if !ok {
				row.min, row.max = s.Value, s.Value
			}
			row.count++
			row.sum += s.Value
			row.min, row.max, row.last = min(row.min, s.Value), max(row.max, s.Value), s.Value
			row.mean = row.sum / row.count
			c.rows[k] = row
		}
	}
}

// compareWithInflux compares the whole embedded InfluxDB of a stopped server with a recount.
func compareWithInflux(t *testing.T, dir string, want *count) {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: filepath.Join(dir, "influx")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	compareWithStore(t, store, want)
}

// compareWithExternal is compareWithInflux for an external InfluxDB.
func compareWithExternal(t *testing.T, address string, want *count) {
	t.Helper()
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	compareWithStore(t, store, want)
}

// compareWithStore reads and compares every raw point and aggregate of the fleet's stats, stat_0 to
// stat_9.
func compareWithStore(t *testing.T, store influx.Store, want *count) {
	t.Helper()
	raw := make(map[string]float64)
	for i := range 10 {
		name := relaytest.FleetStat(i)
		rows, err := store.Query(t.Context(), fmt.Sprintf(`SELECT %q FROM "one_day".%q GROUP BY "edge", "host"`, name, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for _, v := range row.Values {
				raw[key(hostOf(row.Tags["edge"], row.Tags["host"]), name, v[0].(int64))] = v[1].(float64)
			}
		}
	}
	if !maps.Equal(raw, want.raw) {
		t.Errorf("%d raw points, the journal holds %d readings; %s", len(raw), len(want.raw), difference(raw, want.raw))
	}

	got := make(map[string]aggregates)
	rows, err := store.Query(t.Context(), fmt.Sprintf(`SELECT * FROM %q."aggregate" GROUP BY "edge", "host"`, influx.PolicyAggregate), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, v := range row.Values {
			for i, column := range row.Columns {
				stat, field, _ := strings.Cut(column, ":")
				x, ok := v[i].(float64)
				if column == "time" || !ok { // a tag, or no value
					continue
				}
				k := key(hostOf(row.Tags["edge"], row.Tags["host"]), stat, v[0].(int64))
				a := got[k]
				switch field {
				case "":
					a.mean = x
				case "count":
					a.count = x
				case "sum":
					a.sum = x
				case "min":
					a.min = x
				case "max":
					a.max = x
				case "last":
					a.last = x
				}
				got[k] = a
			}
		}
	}
	if !maps.Equal(got, want.rows) {
		t.Errorf("%d aggregates, a recount gives %d; %s", len(got), len(want.rows), difference(got, want.rows))
	}
}

// difference returns some of the differences between two maps.
func difference[V comparable](got, want map[string]V) string {
	var lines []string
	for k, v := range want {
		if g, ok := got[k]; (!ok || g != v) && len(lines) < 5 {
			lines = append(lines, fmt.Sprintf("%s: got %v (there: %v), want %v", k, g, ok, v))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok && len(lines) < 8 {
			lines = append(lines, fmt.Sprintf("%s: %v is too much", k, v))
		}
	}
	return strings.Join(lines, "; ")
}
