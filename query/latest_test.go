package query

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/latest"
)

// A reading that is older than two poll intervals of the server is no longer shown.
func TestLatestForgets(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.PollInterval = 10 * time.Second })
	at := func(back time.Duration) []latest.Reading {
		return []latest.Reading{{Time: testNow.Add(-back).UnixNano(), Value: 1}}
	}
	w.latest.readings = map[string][]latest.Reading{"cpu": at(20 * time.Second)}
	w.get(t, "/latest/cpu").contains(t, 200, `"value":1`)
	w.latest.readings = map[string][]latest.Reading{"cpu": at(20*time.Second + 1)}
	w.get(t, "/latest/cpu").contains(t, 404, "in the last 20s")
	if got := w.latest.since.Load(); got != testNow.Add(-20*time.Second).UnixNano() {
		t.Errorf("since %d", got)
	}
}

// Filters reach the index unchanged.
func TestLatestFilters(t *testing.T) {
	w := startWorld(t, nil)
	for i := range 4 {
		w.latest.readings = map[string][]latest.Reading{"cpu": append(w.latest.readings["cpu"],
			latest.Reading{Time: minutesAgo(0), Value: float64(int(1) << i), Tags: []latest.Tag{{Key: "host", Value: fmt.Sprint("h", i)}, {Key: "zone", Value: fmt.Sprint(i % 2)}}})}
	}
	w.latest.readings["cpu"] = append(w.latest.readings["cpu"], latest.Reading{Time: minutesAgo(0), Value: 16, Tags: []latest.Tag{{Key: "host", Value: "it's & <co>"}}})
	for query, want := range map[string]int{
		"":                                       31,
		"host=h0":                                1,
		"host=h0&host=h3":                        9,
		"host=h0&host=h0":                        1,
		"zone=0":                                 5,
		"zone=0&host=h0&host=h1":                 1,
		"zone=":                                  16, // those without the tag
		"zone":                                   16,
		"zone=&zone=1":                           26,
		"start=1d":                               0, // on /latest start is a filter like any other
		"host=" + url.QueryEscape("it's & <co>"): 16,
	} {
		a := w.get(t, "/latest/cpu?verb=sum&"+query)
		if want == 0 {
			a.contains(t, 404, "Not Found")
			continue
		}
		a.contains(t, 200, fmt.Sprintf(`"value":%d}`, want))
	}
	// Names stay readable in answers.
	w.get(t, "/latest/cpu?verb=none&zone=").contains(t, 200, `"host":"it's & <co>"`)
}

// Tags with the names of the answer's own fields do not replace these fields.
func TestLatestNoneWithOddTags(t *testing.T) {
	w := startWorld(t, nil)
	w.latest.readings = map[string][]latest.Reading{"cpu": {{Time: minutesAgo(0), Value: 5, Tags: []latest.Tag{{Key: "value", Value: "x"}, {Key: "host", Value: "a"}}}}}
	w.get(t, "/latest/cpu?verb=none").want(t, 200, `[{"host":"a","time":1795429230,"value":5}]`+"\n")
}

func TestLatestTooBig(t *testing.T) {
	w := startWorld(t, nil)
	w.latest.readings = map[string][]latest.Reading{"cpu": {{Time: minutesAgo(0), Value: 1.7e308}, {Time: minutesAgo(0), Value: 1.7e308}}}
	w.get(t, "/latest/cpu?verb=sum").contains(t, 404, "the sum of cpu is more than a number can hold")
	w.get(t, "/latest/cpu?verb=max").contains(t, 200, "1.7e+308")
}

func TestParameterErrors(t *testing.T) {
	w := startWorld(t, nil)
	var manyKeys, manyValues strings.Builder
	for i := range maxFilterKeys + 1 {
		fmt.Fprintf(&manyKeys, "&k%d=1", i)
	}
	for i := range maxFilterValues + 1 {
		fmt.Fprintf(&manyValues, "&h=%d", i)
	}
	for _, c := range []struct{ query, want string }{
		{"verb=MEAN", "verb must be one of mean, min"},
		{"verb=mean(x)", "verb must be one of"},
		{"verb=mean&verb=mean", "verb is given 2 times"},
		{"=x", "the filter has no name"},
		{"a%00=x", "control characters"},
		{"a=%0A", "control characters"},
		{"a=%FF", "not UTF-8"},
		{"a=%7F", "control characters"},
		{"%zz=1", "the query string is malformed"},
		{"a;b=1", "the query string is malformed"},
		{"time=5", "time cannot be a filter"},
		{"Time=5", "Time cannot be a filter"},
		{"now()=5", "now() cannot be a filter"},
		{"_tagKey=5", "_tagKey cannot be a filter"},
		{"_name=5", "_name cannot be a filter"},
		{strings.Repeat("k", maxNameBytes+1) + "=1", "at most 256"},
		{"k=" + strings.Repeat("v", maxValueBytes+1), "at most 1024"},
		{manyKeys.String(), "33 different filters: at most 32"},
		{manyValues.String(), "more than 1024 filter values"},
	} {
		for _, kind := range []string{"latest", "hourly", "daily"} {
			w.get(t, "/"+kind+"/cpu?"+c.query).contains(t, 400, c.want)
		}
	}
	for _, c := range []struct{ query, want string }{
		{"start=1d&start=2d", "start is given 2 times"},
		{"stop=1d&stop=2d", "stop is given 2 times"},
		{"backfill=1&backfill=2", "backfill is given 2 times"},
		{"start=-1d", `start \"-1d\": use how far back it is`},
		{"start=1y", "use how far back it is"},
		{"start=1.5h", "use how far back it is"},
		{"start=1h%20", "use how far back it is"},
		{"start=now()", "use how far back it is"},
		{"start=1d%20OR%201=1", "use how far back it is"},
		{"start=99999999999999999999w", "use how far back it is"},
		{"start=3661d", "up to 3660d"},
		{"stop=1x", `stop \"1x\"`},
		{"start=1h&stop=1h", "stop must be less far back than start (start=1h, stop=1h)"},
		{"start=0", "stop must be less far back"},
		{"start=" + strings.Repeat("9", 5000), "use how far back it is"},
	} {
		for _, kind := range []string{"hourly", "daily"} {
			a := w.get(t, "/"+kind+"/cpu?"+c.query)
			a.contains(t, 400, c.want)
			if len(a.body) > 300 {
				t.Errorf("%.30s: an error of %d bytes", c.query, len(a.body))
			}
		}
	}
	w.get(t, "/hourly/_tagKey").contains(t, 400, "_tagKey has no history")
	w.get(t, "/daily/time").contains(t, 400, "time has no history")
	if asked := w.influx.statements(); len(asked) != 0 {
		t.Errorf("InfluxDB was asked %v", asked)
	}
}

// BenchmarkLatest measures the handler without the network: the parameters, 1,000 of 100,000
// series, and the answer.
func BenchmarkLatest(b *testing.B) {
	w := newWorld(b, nil)
	readings := make([]latest.Reading, 1000)
	for i := range readings {
		readings[i] = latest.Reading{Time: minutesAgo(0), Value: float64(i), Tags: []latest.Tag{{Key: "host", Value: fmt.Sprint("h", i)}}}
	}
	w.latest.readings = map[string][]latest.Reading{"cpu": readings}
	r := httptest.NewRequest("GET", "/latest/cpu?verb=mean", nil)
	r.Header.Set("X-AUTH-TOKEN", testToken)
	for b.Loop() {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Code)
		}
	}
}

// BenchmarkStatement measures how long a history request builds and checks its InfluxQL.
func BenchmarkStatement(b *testing.B) {
	fs := filters{{key: "host", values: []string{"web1", "web2"}}, {key: "service", values: []string{"it's"}}}
	for b.Loop() {
		if _, err := asked("cpu_used", fs, time.Hour).statement(exactPlan("mean").calls); err != nil {
			b.Fatal(err)
		}
	}
}
