package query

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// eachStore runs a test with every InfluxDB that Pulse works with. The policies keep everything.
func eachStore(t *testing.T, run func(t *testing.T, store influx.Store)) {
	t.Helper()
	schema := []string{`CREATE DATABASE "statistics" WITH DURATION 0s REPLICATION 1 SHARD DURATION 1h NAME "one_day"`,
		`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 0s REPLICATION 1 SHARD DURATION 1d`}
	stores := map[string]func(t *testing.T) (influx.Store, error){
		"embedded": func(t *testing.T) (influx.Store, error) { return embedded.Open(embedded.Options{Dir: t.TempDir()}) },
	}
	for _, version := range []testtools.InfluxDB{testtools.InfluxDB18, testtools.InfluxDB16} {
		stores[string(version)] = func(t *testing.T) (influx.Store, error) {
			return influx.OpenExternal(influx.ExternalOptions{Address: testtools.StartInfluxd(t, version).Addr})
		}
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			store, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			for _, statement := range schema {
				if _, err := store.Query(t.Context(), statement, nil); err != nil {
					t.Fatal(err)
				}
			}
			run(t, store)
		})
	}
}

// rangeAnswer is the JSON of /range.
type rangeAnswer struct {
	Stat   string
	Step   int64
	Source []string
	Series []struct {
		Tags   map[string]string
		Points [][2]*float64
	}
}

// points are the values of an answer that are not null, by tags and time.
func (a *rangeAnswer) points() map[string]float64 {
	points := map[string]float64{}
	for _, s := range a.Series {
		for _, p := range s.Points {
			if p[1] != nil {
				points[fmt.Sprint(s.Tags, " ", int64(*p[0]))] = *p[1]
			}
		}
	}
	return points
}

// single is a reading as the model of /range keeps it.
type single struct {
	time     int64
	tags     map[string]string
	value    float64
	kept     bool // as a raw point
	windowed bool // in a window of InfluxDB
}

// modelled is the model: what a history is made of, and how it is looked at.
type modelled struct {
	readings  []single
	interval  time.Duration
	retention time.Duration
}

// question of the model.
type modelQuestion struct {
	verb       verb
	by         []string
	filters    map[string][]string
	start, end int64 // whole slots
	step       int64
	now        int64
}

// answer computes a question in the simplest way: slot by slot, over all readings. A slot is made
// of readings if it is no whole number of windows and lies where readings are kept; else it is made
// of the windows that begin in it. A window without a reading in its time is one that is not kept.
func (m *modelled) answer(q modelQuestion) map[string]float64 {
	interval := int64(m.interval)
	var matching []single
	for _, r := range m.readings {
		ok := true
		for key, values := range q.filters {
			ok = ok && slices.Contains(values, r.tags[key])
		}
		if ok {
			matching = append(matching, r)
		}
	}
	oldest := q.now - int64(m.retention)
	// The first slot whose readings are all kept, and which begins with or after a window of such.
	seam := (oldest + interval - 1) / interval * interval
	seam = (seam + q.step - 1) / q.step * q.step
	percentile := q.verb[0] == 'p'
	raw := func(slot int64) bool {
		return percentile || q.step%interval != 0 && slot >= seam
	}
	bare := func(window int64) bool { // no slot of its time has readings
		return !slices.ContainsFunc(matching, func(r single) bool {
			slot := r.time / q.step * q.step
			return r.kept && slot >= q.start && slot < q.end && raw(slot) && slot < window+interval && slot+q.step > window
		})
	}
	type of struct {
		group string
		slot  int64
	}
	fromReadings, fromWindows := map[of][]single{}, map[of]map[string][]single{}
	for _, r := range matching {
		tags := map[string]string{}
		for _, key := range q.by {
			tags[key] = r.tags[key]
		}
		group := fmt.Sprint(tags)
		if slot := r.time / q.step * q.step; r.kept && raw(slot) && slot >= q.start && slot < q.end {
			fromReadings[of{group, slot}] = append(fromReadings[of{group, slot}], r)
		}
		if !r.windowed || percentile {
			continue
		}
		window := r.time / interval * interval
		slot := window / q.step * q.step
		if window < q.start || slot >= q.end {
			continue
		}
		k := of{group, slot}
		if fromWindows[k] == nil {
			fromWindows[k] = map[string][]single{}
		}
		series := fmt.Sprint(window, r.tags)
		fromWindows[k][series] = append(fromWindows[k][series], r)
	}
	points := map[string]float64{}
	for k, windows := range fromWindows {
		if raw(k.slot) {
			covered := false
			for window := (k.slot + interval - 1) / interval * interval; window < k.slot+q.step; window += interval {
				covered = covered || !bare(window)
			}
			if covered {
				continue
			}
		}
		if v, ok := windowsValue(q.verb, windows, interval); ok {
			points[fmt.Sprint(k.group, " ", k.slot/1e9)] = v
		}
	}
	for k, list := range fromReadings {
		var s []sample
		for _, r := range list {
			s = append(s, sample{r.time, r.value})
		}
		if v, ok := apply(string(q.verb), s).(float64); ok {
			points[fmt.Sprint(k.group, " ", k.slot/1e9)] = v
		} else if n, ok := apply(string(q.verb), s).(int64); ok {
			points[fmt.Sprint(k.group, " ", k.slot/1e9)] = float64(n)
		}
	}
	return points
}

// windowsValue is the value of a slot by the windows that begin in it, by window and series.
func windowsValue(v verb, windows map[string][]single, interval int64) (float64, bool) {
	var all, means, lasts []sample
	for _, list := range windows {
		slices.SortStableFunc(list, func(a, b single) int { return cmp.Compare(a.time, b.time) })
		sum := 0.0
		for _, r := range list {
			all = append(all, sample{r.time, r.value})
			sum += r.value
		}
		at := list[0].time / interval * interval
		means = append(means, sample{at, sum / float64(len(list))})
		lasts = append(lasts, sample{at, list[len(list)-1].value})
	}
	from := means
	switch v {
	case "mean", "sum", "count", "min", "max", "spread":
		from = all
	case "last":
		from = lasts
	}
	switch value := apply(string(v), from).(type) {
	case float64:
		return value, true
	case int64:
		return float64(value), true
	}
	return 0, false
}

// write stores the readings and the windows.
func (m *modelled) write(t *testing.T, store influx.Store, stat string) {
	t.Helper()
	windows := map[string][]single{}
	var raw []influx.Point
	series := func(measurement string, tags map[string]string) influx.Series {
		var list []influx.Tag
		for key, value := range tags {
			list = append(list, influx.Tag{Key: key, Value: value})
		}
		return influx.NewSeries(measurement, list...)
	}
	for _, r := range m.readings {
		if r.kept {
			raw = append(raw, influx.Point{Series: series(stat, r.tags), Time: r.time, Fields: []influx.Field{{Key: stat, Value: r.value}}})
		}
		if r.windowed {
			k := fmt.Sprint(r.time/int64(m.interval), r.tags)
			windows[k] = append(windows[k], r)
		}
	}
	var rows []influx.Point
	for _, list := range windows {
		row := aggregateOf(list)
		p := influx.Point{Series: series("aggregate", list[0].tags), Time: list[0].time / int64(m.interval) * int64(m.interval)}
		for i, key := range []string{stat, stat + ":count", stat + ":sum", stat + ":min", stat + ":max", stat + ":last"} {
			p.Fields = append(p.Fields, influx.Field{Key: key, Value: row[i]})
		}
		rows = append(rows, p)
	}
	for policy, points := range map[influx.Policy][]influx.Point{influx.PolicyRaw: raw, influx.PolicyAggregate: rows} {
		if res, err := store.Write(t.Context(), policy, points); err != nil || res != (influx.WriteResult{}) {
			t.Fatal(res, err)
		}
	}
}

// aggregateOf returns the mean, count, sum, min, max and last of readings.
func aggregateOf(list []single) [6]float64 {
	slices.SortStableFunc(list, func(a, b single) int { return cmp.Compare(a.time, b.time) })
	row := [6]float64{3: math.Inf(1), 4: math.Inf(-1)}
	for _, r := range list {
		row[1]++
		row[2] += r.value
		row[3], row[4], row[5] = min(row[3], r.value), max(row[4], r.value), r.value
	}
	row[0] = row[2] / row[1]
	return row
}

// What /range answers equals a count of the readings, for random questions about random readings:
// of one time zone or another, with raw points that are kept for less time than the windows, and
// with holes in them. Where /hourly has the same question, it has the same answer.
func TestRangeEqualsARecount(t *testing.T) {
	eachStore(t, func(t *testing.T, store influx.Store) {
		for seed := range uint64(6) {
			rangeEqualsARecount(t, store, seed)
		}
	})
}

func rangeEqualsARecount(t *testing.T, store influx.Store, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	name := fmt.Sprint("stat", seed) // each seed has a stat of its own
	m := &modelled{interval: []time.Duration{15 * time.Minute, time.Minute, 20 * time.Minute}[seed%3],
		retention: time.Duration(60+rnd.IntN(240)) * time.Minute}
	oldest := testNow.Add(-m.retention).Truncate(time.Hour).UnixNano() // whole shards expire
	holeFrom := testNow.Add(-time.Duration(rnd.Int64N(int64(4 * time.Hour)))).Truncate(m.interval).UnixNano()
	holeTo := holeFrom + rnd.Int64N(4)*int64(m.interval)
	for at := testNow.Add(-8 * time.Hour); at.Before(testNow); at = at.Add(time.Duration(rnd.Int64N(int64(4 * time.Minute)))) {
		if rnd.IntN(40) == 0 { // nothing comes for a while
			at = at.Add(time.Hour / 2)
			continue
		}
		host := rnd.IntN(4)
		tags := map[string]string{"host": fmt.Sprint("web", host)}
		if host > 0 {
			tags["service"] = fmt.Sprint("s", host%2)
		}
		ns := at.UnixNano()
		m.readings = append(m.readings, single{ns, tags, float64(rnd.IntN(800)) / 8, ns >= oldest && !(ns >= holeFrom && ns < holeTo), true})
	}
	m.write(t, store, name)
	w := startWorld(t, func(o *Options) {
		o.AggregateInterval, o.RawRetention, o.Stored, o.StoredMeasurement = m.interval, m.retention, influx.Clean, influx.CleanMeasurement
		o.Location = time.FixedZone("", 3*3600+1800)
	})
	w.influx.query = store.Query
	steps := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 7 * time.Minute, 61 * time.Second, 20 * time.Minute,
		10 * time.Second, 24 * time.Hour, 100 * time.Minute}
	sources := map[string]bool{}
	for range 60 {
		q := modelQuestion{verb: append(verbs(), "p50", "p90", "p95", "p99")[rnd.IntN(15)], step: int64(steps[rnd.IntN(len(steps))]), now: testNow.UnixNano(),
			by: [][]string{nil, {"host"}, {"service"}, {"host", "service"}, {"service", "host"}}[rnd.IntN(5)]}
		if q.verb == "mode" {
			continue // the engine takes any of several modes
		}
		back := time.Duration(rnd.Int64N(int64(8 * time.Hour)))
		stop := time.Duration(rnd.Int64N(int64(back)/2 + 1))
		if q.verb[0] == 'p' {
			back = min(back, m.retention)
			stop = min(stop, back/2)
		}
		start, end := testNow.Add(-back).Unix(), testNow.Add(-stop).Unix()
		if start >= end {
			continue
		}
		q.start = start * 1e9 / q.step * q.step
		q.end = (end*1e9 + q.step - 1) / q.step * q.step
		query := []string{"", "&host=web1", "&host=web1&host=web2", "&service=s0&service=", "&service=s1&host=web3"}[rnd.IntN(5)]
		q.filters = map[string][]string{}
		for pair := range strings.SplitSeq(strings.TrimPrefix(query, "&"), "&") {
			if key, value, ok := strings.Cut(pair, "="); ok {
				q.filters[key] = append(q.filters[key], value)
			}
		}
		path := fmt.Sprintf("/range/%s?verb=%s&start=%d&stop=%d&step=%d&by=%s%s", name, q.verb, start, end, q.step/1e9, strings.Join(q.by, ","), query)
		a := w.get(t, path)
		if a.status == 400 && q.verb[0] == 'p' && strings.Contains(a.body, "single readings") {
			continue // they are not kept so long
		}
		if a.status != 200 {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		var got rangeAnswer
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(path, err, a.body)
		}
		for _, source := range got.Source {
			sources[source] = true
		}
		points, want := got.points(), m.answer(q)
		if !maps.EqualFunc(points, want, near) {
			t.Fatalf("seed %d, windows of %s, kept for %s, hole %d to %d: %s\n%s", seed, m.interval, m.retention, holeFrom/1e9, holeTo/1e9, path, differ(points, want))
		}
		if q.step == int64(time.Hour) && len(q.by) == 0 && q.verb[0] != 'p' && q.step%int64(m.interval) == 0 {
			hours := map[string]float64{}
			b := w.get(t, strings.Replace(path[:strings.Index(path, "&start=")], "/range/", "/hourly/", 1)+
				fmt.Sprintf("&start=%s&stop=%s%s", rfc3339(start), rfc3339(end), query))
			if b.status == 200 {
				var list []stat
				if err := json.Unmarshal([]byte(b.body), &list); err != nil {
					t.Fatal(err)
				}
				for _, h := range list {
					hours[fmt.Sprint("map[] ", h.Time)] = h.Value
				}
			}
			if !maps.Equal(points, hours) {
				t.Fatalf("%s and /hourly (%d):\n%s", path, b.status, differ(points, hours))
			}
		}
	}
	if !sources["raw"] || !sources["aggregates"] {
		t.Errorf("seed %d: only %v were used", seed, sources)
	}
}

func rfc3339(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }

// differ returns the points in which two answers differ.
func differ(got, want map[string]float64) string {
	var lines []string
	for k, v := range want {
		if g, ok := got[k]; !ok || !near(g, v) {
			lines = append(lines, fmt.Sprintf("%s: got %v (there: %t), want %v", k, g, ok, v))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			lines = append(lines, fmt.Sprintf("%s: %v is too much", k, v))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines[:min(len(lines), 10)], "\n")
}
