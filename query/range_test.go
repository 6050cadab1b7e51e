package query

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/internal/tagfilter"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
)

// points asks a question about one series, and returns its points as text: "-" is null.
func (w *world) points(t *testing.T, path string) (points []string, source string) {
	t.Helper()
	a := w.get(t, path)
	var got rangeAnswer
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || len(got.Series) > 1 {
		t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	for _, s := range got.Series {
		for _, p := range s.Points {
			at := time.Unix(int64(*p[0]), 0).UTC().Format("15:04")
			if p[1] == nil {
				points = append(points, at+" -")
				continue
			}
			points = append(points, fmt.Sprint(at, " ", *p[1]))
		}
	}
	return points, strings.Join(got.Source, "+")
}

// Readings are used from the first whole window on that is kept, and the windows before. The running
// window comes from memory where windows are used, and no reading is in two points.
func TestRangeStitches(t *testing.T) {
	at := func(clock string) time.Time {
		v, err := time.Parse("2006-01-02 15:04:05", "2026-11-23 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	host := map[string]string{"host": "a"}
	db := &database{}
	for _, r := range []struct {
		window   string
		readings []string
	}{
		{"09:15:00", []string{"09:15:10", "09:16:00", "09:25:00"}}, // not kept: the limit is 09:20:30
		{"09:30:00", []string{"09:30:00", "09:44:59"}},
		{"09:45:00", nil}, // readings that InfluxDB has lost
		{"10:00:00", []string{"10:00:00", "10:07:00", "10:07:30"}},
	} {
		values := make([]float64, max(1, len(r.readings)))
		for i := range values {
			values[i] = float64(i + 1)
		}
		for i, clock := range r.readings {
			db.addReading(at(clock).UnixNano(), host, "cpu", values[i])
		}
		db.addWindow(at(r.window), host, "cpu", values...)
	}
	db.addReading(at("10:16:00").UnixNano(), host, "cpu", 5)
	db.addReading(at("10:20:00").UnixNano(), host, "cpu", 7)
	open := &openWindows{
		rows:   []influx.WindowRow{{Time: at("10:15:00").UnixNano(), Tags: []influx.Tag{{Key: "host", Value: "a"}}, Mean: 6, Count: 2, Sum: 12, Min: 5, Max: 7, Last: 7}},
		ranges: []influx.TimeRange{{From: at("10:15:00").UnixNano(), To: at("10:30:00").UnixNano()}},
	}
	w := startWorld(t, func(o *Options) { o.RawRetention, o.Windows = time.Hour, open })
	w.influx.query = db.query
	for path, want := range map[string]string{
		"start=70m&stop=50m&step=5m&verb=count": "raw+aggregates: 09:10 -,09:15 3,09:20 -,09:25 -,09:30 1",
		"start=40m&stop=10m&step=5m&verb=count": "raw+aggregates: 09:40 1,09:45 1,09:50 -,09:55 -,10:00 1,10:05 2,10:10 -",
		"start=15m&step=5m&verb=sum":            "raw: 10:05 5,10:10 -,10:15 5,10:20 7",
		"start=30m&step=15m&verb=sum":           "aggregates: 09:45 1,10:00 6,10:15 12",
		"start=65m&step=1h&verb=max":            "aggregates: 09:00 3,10:00 7",
		"start=65m&step=1h&verb=mean":           fmt.Sprint("aggregates: 09:00 ", 10./6, ",10:00 3.6"),
		// 40 minutes are no whole number of windows: from 10:00 on, readings are used.
		"start=65m&step=40m&verb=count": "raw+aggregates: 08:40 3,09:20 3,10:00 5",
		"start=15m&step=5m&verb=p50":    "raw: 10:05 2,10:10 -,10:15 5,10:20 7",
	} {
		points, source := w.points(t, "/range/cpu?"+path)
		if got := source + ": " + strings.Join(points, ","); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", path, got, want)
		}
	}
}

// A companion of a stat is no stat, in the windows or among the readings.
func TestRangeOfCompanions(t *testing.T) {
	w := startWorld(t, nil)
	w.latest.stats = []string{"cpu"}
	w.get(t, "/range/cpu:sum?start=1h").contains(t, 404, `no reading of \"cpu:sum\" is known`)
	for _, st := range w.influx.statements() {
		if !strings.HasPrefix(st.text, "SHOW") {
			t.Errorf("asked %q", st.text)
		}
	}
}

func TestDefaultStep(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.PollInterval = 10 * time.Second })
	for query, want := range map[string]time.Duration{
		"start=1m": 10 * time.Second, "start=1h": 10 * time.Second, "start=2h": 15 * time.Second, "start=8h": time.Minute, // readings
		"start=8h1s": 15 * time.Minute, "start=1w": 30 * time.Minute, "start=30d": 2 * time.Hour, "start=1d&stop=23h": 15 * time.Minute, // windows
		"start=365d": 24 * time.Hour, "start=3660d": 8 * 24 * time.Hour,
	} {
		sel, err := parseRange(query, testNow, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.defaultStep(sel); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	w = newWorld(t, func(o *Options) { o.AggregateInterval = 45 * time.Minute })
	if sel, err := parseRange("start=2d", testNow, time.UTC); err != nil || w.defaultStep(sel) != 3*time.Hour {
		t.Errorf("windows of 45 minutes: %s %v", w.defaultStep(sel), err)
	}
}

// start and stop are read in the server's time zone. Slots are those of UTC, also where clocks
// change: a local day of 25 hours is not one slot.
func TestRangeOfLocalTimes(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w := startWorld(t, func(o *Options) {
		o.Location, o.Now = berlin, func() time.Time { return time.Date(2026, 10, 26, 12, 0, 0, 0, time.UTC) }
	})
	for query, want := range map[string][2]string{
		"start=2026-10-25&stop=2026-10-26&step=1h":                       {"2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}, // 25 hours
		"start=2026-10-25&stop=2026-10-26&step=1d":                       {"2026-10-24T00:00:00Z", "2026-10-26T00:00:00Z"},
		"start=2026-10-25T02:30%2B02:00&stop=yesterday%2004:00&step=30m": {"2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z"},
		"start=1792891800&stop=1792892999&step=10m":                      {"2026-10-25T01:30:00Z", "2026-10-25T01:50:00Z"},
		"start=2026-10-25T01:31:01Z&stop=2026-12-01&step=1h":             {"2026-10-25T01:00:00Z", "2026-10-26T12:00:00Z"}, // a stop in the future is now
		"start=2h&stop=1h&step=7m&verb=count&service=x&by=a,b%22":        {"2026-10-26T09:56:00Z", "2026-10-26T11:00:00Z"},
	} {
		w.get(t, "/range/cpu?"+query)
		from, to := int64(math.MaxInt64), int64(0)
		for _, st := range w.influx.statements() {
			var a, b int64
			if i := strings.Index(st.text, "time >= "); i >= 0 {
				if _, err := fmt.Sscanf(st.text[i:], "time >= %d AND time < %d", &a, &b); err != nil {
					t.Fatal(err)
				}
				from, to = min(from, a), max(to, b)
			}
		}
		got := [2]string{time.Unix(0, from).UTC().Format(time.RFC3339), time.Unix(0, to).UTC().Format(time.RFC3339)}
		if strings.Contains(query, "step=7m") {
			got[1] = want[1] // such slots do not end with the hour
		}
		if got != want {
			t.Errorf("%s asked for %v, want %v", query, got, want)
		}
	}
}

func TestRangeParameterErrors(t *testing.T) {
	w := startWorld(t, nil)
	for query, text := range map[string]string{
		"step=0":                  "from 1s to",
		"step=0s":                 "from 1s to",
		"step=-5":                 "from 1s to",
		"step=99999999999999":     "from 1s to",
		"step=5m&step=6m":         "step is given 2 times",
		"start=1h&stop=2h":        "stop must be less far back than start",
		"start=3600":              "too far back",
		"start=1795999999":        "in the future",
		"stop=1795000000&start=1": "too far back",
		"by=host,host":            "by has host twice",
		"by=" + url.QueryEscape(strings.Repeat("x", 257)): "257 bytes",
		"by=_name":                             "InfluxDB reserves the name",
		"by=a%0Ab":                             "control characters",
		"by=" + strings.Repeat("k,", 40) + "k": "twice",
		"time=5":                               "reserves the name",
		"verb=none":                            "verb must be one of",
		"verb=p95&start=8h1m":                  "--raw-retention",
		"start=20d&step=1s":                    "use a longer step",
		"host=" + strings.Repeat("x", 1025):    "at most 1024",
		"start=1h&step=1s&%zz":                 "malformed",
		"by=a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,1,2,3,4,5,6,7": "more than 32",
	} {
		w.get(t, "/range/cpu?"+query).contains(t, 400, text)
	}
	w.get(t, "/range/time").contains(t, 400, "reserves the name")
	if asked := w.influx.statements(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// More than 1,000 series or a million points are refused: before InfluxDB is asked if memory shows
// it, else when its answer does.
func TestRangeLimits(t *testing.T) {
	w := startWorld(t, nil)
	ask := func(hosts int, path string) answer {
		w.influx.query = func(context.Context, string, map[string]any) ([]models.Row, error) {
			rows := make([]models.Row, hosts)
			for i := range rows {
				rows[i] = models.Row{Tags: map[string]string{"host": fmt.Sprint(i)}, Values: [][]any{{minutesAgo(1), 1.0}}}
			}
			return rows, nil
		}
		return w.get(t, path)
	}
	ask(1000, "/range/cpu?verb=max&by=host&start=10m&step=1m").contains(t, 200, `"host":"999"`)
	ask(1001, "/range/cpu?verb=max&by=host&start=10m&step=1m").contains(t, 400, "by host there are more than 1000 series")
	ask(600, "/range/cpu?verb=max&by=host&start=30m&step=1s").contains(t, 400, "1080600 points of 600 series are more than the 1000000")
	ask(500, "/range/cpu?verb=max&by=host&start=30m&step=1s").contains(t, 200, `"step":1,`)

	w.influx.statements()
	for i := range 1001 {
		w.latest.readings = map[string][]latest.Reading{"cpu": append(w.latest.readings["cpu"],
			latest.Reading{Time: minutesAgo(1), Tags: []latest.Tag{{Key: "host", Value: fmt.Sprint(i)}, {Key: "rack", Value: fmt.Sprint(i % 7)}}})}
	}
	for query, text := range map[string]string{
		"by=host&start=10m&step=1m":              "more than 1000 series",
		"by=rack,host&start=10m&step=1m":         "by rack,host there are more than 1000 series",
		"by=host&rack=3&start=3h&step=1s":        "1544543 points of 143 series",
		"by=host&rack=3&rack=4&start=3h&step=1s": "points of 286 series",
	} {
		w.get(t, "/range/cpu?"+query).contains(t, 400, text)
	}
	if asked := w.influx.statements(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
	w.latest.tagKeys = []string{"host", "rack"}
	// Those that were not read in that time may have nothing in it: their windows are counted.
	ask(3, "/range/cpu?verb=max&by=host&start=10m&stop=2m&step=1m").contains(t, 200, `"host":"2"`)
	w.influx.statements()
	ask(1001, "/range/cpu?verb=max&by=host&start=10m&stop=2m&step=1m").contains(t, 400, "more than 1000 series")
	ask(600, "/range/cpu?verb=max&by=host&start=2200s&stop=2m&step=1s").contains(t, 400, "points of 600 series")
	if asked := w.influx.statements(); slices.ContainsFunc(asked, func(st statement) bool { return strings.Contains(st.text, "one_day") }) {
		t.Errorf("points were computed: %v", asked)
	}
	ask(3, "/range/cpu?verb=max&by=rack&start=10m&step=1m").contains(t, 200, "series")
}

// Readings and windows whose sum is more than a float64 holds have a mean all the same; a sum that
// is too large is null. So it is in every store.
func TestRangeOfHugeReadings(t *testing.T) {
	eachStore(t, func(t *testing.T, store influx.Store) {
		m := &modelled{interval: 15 * time.Minute, retention: 8 * time.Hour}
		at := testNow.Truncate(15 * time.Minute)
		for i := range 4 {
			m.readings = append(m.readings, single{at.Add(time.Duration(i) * time.Second).UnixNano(), map[string]string{"host": "a"}, 1.5e308, true, false},
				single{at.Add(time.Minute + time.Duration(i)*time.Second).UnixNano(), map[string]string{"host": "b"}, float64(i), true, false})
		}
		m.write(t, store, "cpu")
		w := startWorld(t, nil)
		w.influx.query = store.Query
		for verb, want := range map[string]string{"mean": "10:15 1.5e+308,10:16 1.5", "max": "10:15 1.5e+308,10:16 3", "sum": "10:15 -,10:16 6"} {
			if points, _ := w.points(t, "/range/cpu?start=5m30s&stop=4m&step=1m&verb="+verb); strings.Join(points, ",") != want {
				t.Errorf("%s: %v, want %s", verb, points, want)
			}
			points, _ := w.points(t, "/range/cpu?start=5m30s&stop=4m&step=1m&by=host&host=b&verb="+verb)
			if want := "10:15 -,10:16 " + map[string]string{"mean": "1.5", "max": "3", "sum": "6"}[verb]; strings.Join(points, ",") != want {
				t.Errorf("%s of b: %v, want %s", verb, points, want)
			}
		}
	})
}

// Every name of the corpus that can be stored is found again as a stat, a tag to group by, and its
// value, in the readings and in the windows of every store.
func TestRangeWithTheCorpus(t *testing.T) {
	eachStore(t, func(t *testing.T, store influx.Store) {
		w := startWorld(t, func(o *Options) { o.Stored, o.StoredMeasurement = influx.Clean, influx.CleanMeasurement })
		w.influx.query = store.Query
		at := testNow.Add(-5 * time.Minute)
		for i, name := range corpus(t) {
			if checkName("", name) != nil || tagfilter.Reserved(name) || name == "_measurement" || strings.Contains(name, ",") || strings.Contains(name, ":") {
				continue
			}
			m := &modelled{interval: 15 * time.Minute, retention: 8 * time.Hour, readings: []single{{at.UnixNano(), map[string]string{name: name}, float64(i), true, true}}}
			m.write(t, store, name)
			for _, step := range []string{"1m", "15m"} {
				var got rangeAnswer
				path := "/range/" + url.PathEscape(name) + "?start=10m&step=" + step + "&by=" + url.QueryEscape(name)
				if name != "verb" && name != "start" && name != "stop" && name != "step" && name != "by" {
					path += "&" + url.QueryEscape(name) + "=" + url.QueryEscape(name)
				}
				a := w.get(t, path)
				if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || len(got.Series) != 1 || got.Series[0].Tags[name] != influx.Clean(name) ||
					!slices.ContainsFunc(got.Series[0].Points, func(p [2]*float64) bool { return p[1] != nil && *p[1] == float64(i) }) {
					t.Errorf("%q: %d %s", path, a.status, a.body)
				}
			}
		}
	})
}

// A number in an answer is the same text as encoding/json makes of it.
func FuzzAppendNumber(f *testing.F) {
	for _, v := range []float64{0, math.Copysign(0, -1), 1, -1.5, 0.1, 1e-6, 9.9e-7, 1e-9, 1e-10, 5e-324, 1e20, 1e21, 1e22, 1.7976931348623157e308, 123456789.125} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		if !finite(v) {
			return
		}
		want, err := json.Marshal(v)
		if got := appendNumber(nil, v); err != nil || string(got) != string(want) {
			t.Errorf("%s, want %s %v", got, want, err)
		}
	})
}
