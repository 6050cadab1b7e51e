package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"
)

func getJSON[T any](t testing.TB, w *world, path string) T {
	t.Helper()
	a := w.get(t, path)
	if a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%s: %v in %s", path, err, a.body)
	}
	return v
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

// Over random readings, in windows of random sizes, the hours' mean, min, max, sum, count and
// spread are those of the readings themselves, and not means of means. So is the last of a single
// series.
func TestHourlyIsExactOverTheReadings(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := startWorld(t, nil)
		db := &database{}
		w.influx.query = db.query
		byHour := map[int64][]float64{}   // of both hosts
		lastOfHost := map[int64]float64{} // of host0
		first := testNow.Add(-24 * time.Hour).Truncate(time.Hour)
		for at := first; at.Before(testNow); at = at.Add(15 * time.Minute) {
			for host := range 2 {
				if rnd.IntN(3) == 0 {
					continue // the host was away
				}
				readings := make([]float64, 1+rnd.IntN(20))
				for i := range readings {
					readings[i] = math.Round(rnd.NormFloat64()*1e4) / 100
				}
				db.addWindow(at, map[string]string{"host": fmt.Sprint("host", host)}, "cpu", readings...)
				hour := at.Truncate(time.Hour).Unix()
				byHour[hour] = append(byHour[hour], readings...)
				if host == 0 {
					lastOfHost[hour] = readings[len(readings)-1]
				}
			}
		}
		direct := map[string]func([]float64) float64{
			"min":    slices.Min[[]float64],
			"max":    slices.Max[[]float64],
			"count":  func(v []float64) float64 { return float64(len(v)) },
			"spread": func(v []float64) float64 { return slices.Max(v) - slices.Min(v) },
			"sum": func(v []float64) (sum float64) {
				for _, x := range v {
					sum += x
				}
				return sum
			},
		}
		direct["mean"] = func(v []float64) float64 { return direct["sum"](v) / float64(len(v)) }
		for verb, of := range direct {
			got := getJSON[[]stat](t, w, "/hourly/cpu?verb="+verb)
			if len(got) != len(byHour) {
				t.Fatalf("seed %d %s: %d hours, want %d", seed, verb, len(got), len(byHour))
			}
			for _, g := range got {
				if want := of(byHour[g.Time]); !near(g.Value, want) {
					t.Errorf("seed %d %s of %d: %v, want %v", seed, verb, g.Time, g.Value, want)
				}
			}
		}
		for _, g := range getJSON[[]stat](t, w, "/hourly/cpu?verb=last&host=host0") {
			if want := lastOfHost[g.Time]; g.Value != want {
				t.Errorf("seed %d last of %d: %v, want %v", seed, g.Time, g.Value, want)
			}
		}
	}
}

// A query covers whole slots, from the slot of start to the slot of stop.
func TestSpan(t *testing.T) {
	w := startWorld(t, nil)
	at := func(s string) int64 {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixNano()
	}
	for path, want := range map[string][2]int64{ // now is 2026-11-23 10:20:30
		"/hourly/cpu?verb=first":                    {at("2026-11-22 10:00"), at("2026-11-23 11:00")},
		"/hourly/cpu?verb=first&start=20m":          {at("2026-11-23 10:00"), at("2026-11-23 11:00")},
		"/hourly/cpu?verb=first&start=21m":          {at("2026-11-23 09:00"), at("2026-11-23 11:00")},
		"/hourly/cpu?verb=first&start=2h&stop=1h":   {at("2026-11-23 08:00"), at("2026-11-23 10:00")},
		"/hourly/cpu?verb=first&start=1u":           {at("2026-11-23 10:00"), at("2026-11-23 11:00")},
		"/hourly/cpu?verb=first&start=1w&stop=6d":   {at("2026-11-16 10:00"), at("2026-11-17 11:00")},
		"/daily/cpu?verb=first":                     {at("2026-11-16 10:15"), at("2026-11-23 10:30")},
		"/daily/cpu?verb=first&start=1d":            {at("2026-11-22 10:15"), at("2026-11-23 10:30")},
		"/daily/cpu?verb=first&start=1d&stop=0":     {at("2026-11-22 10:15"), at("2026-11-23 10:30")},
		"/daily/cpu?verb=first&start=3660d&stop=1m": {at("2016-11-15 10:15"), at("2026-11-23 10:30")},
		// start and stop take the same forms as from and to of a replay.
		"/hourly/cpu?verb=first&start=yesterday&stop=today":                       {at("2026-11-22 00:00"), at("2026-11-23 00:00")},
		"/hourly/cpu?verb=first&start=2026-11-20&stop=2026-11-21T14:00":           {at("2026-11-20 00:00"), at("2026-11-21 14:00")},
		"/hourly/cpu?verb=first&start=2026-11-20T01:00%2B01:00&stop=2h":           {at("2026-11-20 00:00"), at("2026-11-23 09:00")},
		"/hourly/cpu?verb=first&start=2026-11-20%2014:00&stop=2026-11-20%2014:01": {at("2026-11-20 14:00"), at("2026-11-20 15:00")},
		"/daily/cpu?verb=first&start=2026-11-22&stop=2026-12-01":                  {at("2026-11-22 00:00"), at("2026-11-23 10:30")},
	} {
		w.get(t, path)
		asked := w.influx.statements()
		if len(asked) != 1 || !strings.Contains(asked[0].text, fmt.Sprintf("time >= %d AND time < %d ", want[0], want[1])) {
			t.Errorf("%s asked %v, want %d to %d", path, asked, want[0], want[1])
		}
	}
}

// Rows of 0.2 are queried only for the time before the first row of this release, and not at all if
// there is no such time.
func TestOldRowsAreAskedForOnlyWhereTheyCanBe(t *testing.T) {
	w := startWorld(t, nil)
	db := &database{}
	w.influx.query = db.query
	host := map[string]string{"host": "a"}
	hour := testNow.Truncate(time.Hour)
	db.addWindow(hour.Add(-time.Hour), host, "cpu", 1)
	w.get(t, "/hourly/cpu?start=80m").contains(t, 200, "")
	if asked := w.influx.statements(); len(asked) != 1 {
		t.Errorf("asked %v", asked)
	}
	w.get(t, "/hourly/cpu?start=3h").contains(t, 200, "")
	asked := w.influx.statements()
	if len(asked) != 2 || !strings.Contains(asked[1].text, fmt.Sprintf(`mean("cpu") AS "c0" FROM "statistics"."one_week"."aggregate" WHERE time >= %d AND time < %d `,
		hour.Add(-3*time.Hour).UnixNano(), hour.Add(-time.Hour).UnixNano())) {
		t.Errorf("asked %v", asked)
	}
	// The companion fields of a stat are not stats themselves.
	w.get(t, "/hourly/cpu:sum").contains(t, 404, "Not Found")
	if asked := w.influx.statements(); len(asked) != 0 {
		t.Errorf("asked %v", asked)
	}
}

type timeoutError struct{ error }

func (timeoutError) Timeout() bool { return true }

func TestInfluxFailures(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.QueryTimeout = 50 * time.Millisecond })
	w.latest.stats = []string{"live"}
	for _, c := range []struct {
		name   string
		query  func(context.Context, string, map[string]any) ([]models.Row, error)
		status int
		text   string
		why    string
	}{
		{"down", errorQuery(errors.New("connection refused " + strings.Repeat("x", 5000))), 503, "InfluxDB did not answer", whyUnavailable},
		{"its own timeout", errorQuery(timeoutError{errors.New("i/o timeout")}), 504, "in time", whyTimeout},
		{"os timeout", errorQuery(os.ErrDeadlineExceeded), 504, "in time", whyTimeout},
		{"ours", func(ctx context.Context, _ string, _ map[string]any) ([]models.Row, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("query: %w", ctx.Err())
		}, 504, "in time", whyTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.influx.query = c.query
			before := value(t, w.metrics.influxErrors.WithLabelValues(c.why))
			for _, path := range []string{"/hourly/cpu", "/daily/cpu?verb=median"} {
				a := w.get(t, path)
				a.contains(t, c.status, c.text)
				if len(a.body) > 600 {
					t.Errorf("%d bytes of error", len(a.body))
				}
				if retry := a.header.Get("Retry-After"); (retry != "") != (c.status == 503) {
					t.Errorf("Retry-After %q", retry)
				}
			}
			w.get(t, "/keys").want(t, 200, `["live"]`+"\n")
			w.get(t, "/tags").want(t, 200, "[]\n")
			if got := value(t, w.metrics.influxErrors.WithLabelValues(c.why)); got != before+4 {
				t.Errorf("counted %v after %v", got, before)
			}
		})
	}
	if n := value(t, w.metrics.history); n != 0 {
		t.Errorf("%v queries are still counted as under way", n)
	}
}

// If the second statement of a request fails, the whole answer fails; there is no partial answer.
func TestSecondStatementFails(t *testing.T) {
	w := startWorld(t, nil)
	db := &database{}
	db.addWindow(testNow.Truncate(time.Hour), nil, "cpu", 1)
	w.influx.query = func(ctx context.Context, text string, params map[string]any) ([]models.Row, error) {
		if strings.Contains(text, "mean(") {
			return nil, errors.New("gone")
		}
		return db.query(ctx, text, params)
	}
	w.get(t, "/hourly/cpu").contains(t, 503, "gone")
}

// These rows are wrong: InfluxDB should not send them.
func TestOddRows(t *testing.T) {
	w := startWorld(t, nil)
	rows := func(values ...[]any) {
		w.influx.query = func(context.Context, string, map[string]any) ([]models.Row, error) {
			return []models.Row{{Columns: []string{"time", "c0"}, Values: values}}, nil
		}
	}
	hour := testNow.Truncate(time.Hour).UnixNano()
	ok := fmt.Sprintf(`[{"time":%d,"value":5}]`+"\n", hour/1e9)
	const path = "/hourly/cpu?verb=median&start=1u"
	rows([]any{hour, 5.0})
	w.get(t, path).want(t, 200, ok)
	rows([]any{json.Number(fmt.Sprint(hour)), json.Number("5")})
	w.get(t, path).want(t, 200, ok)
	rows([]any{float64(hour), int64(5)})
	w.get(t, path).want(t, 200, ok)
	rows([]any{hour, 5.0}, []any{hour, nil}, []any{hour, math.Inf(1)}, []any{hour, math.NaN()}, []any{hour, "text"}, []any{hour, json.Number("x")})
	w.get(t, path).want(t, 200, ok)
	rows([]any{hour})
	w.get(t, path).contains(t, 500, "internal error")
	rows([]any{hour, 1.0, 2.0})
	w.get(t, path).contains(t, 500, "internal error")
	rows([]any{"2026-11-23T10:00:00Z", 1.0})
	w.get(t, path).contains(t, 500, "internal error")
	rows()
	w.get(t, path).contains(t, 404, "Not Found")
	rows([]any{}, []any{nil}, []any{5.0}, []any{"named"})
	w.get(t, "/keys").want(t, 200, `["named"]`+"\n")
}

// No more statements run at once than allowed. The others wait, and give up when their time is
// over.
func TestHistoryLimit(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.HistoryQueries, o.QueryTimeout = 2, 5*time.Second })
	entered, release := make(chan struct{}), make(chan struct{})
	w.influx.query = func(ctx context.Context, _ string, _ map[string]any) ([]models.Row, error) {
		entered <- struct{}{}
		<-release
		return nil, nil
	}
	answers := make(chan answer)
	ask := func() { answers <- w.get(t, "/hourly/cpu?verb=first") }
	go ask()
	go ask()
	<-entered
	<-entered
	if n := value(t, w.metrics.history); n != 2 {
		t.Errorf("%v under way", n)
	}
	// A third request waits as long as its client does.
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() {
		_, err := w.client.Do(tokenRequest(t, w, "/hourly/cpu").WithContext(ctx))
		gone <- err
	}()
	cancel()
	<-gone
	// A fourth request waits until its time is over.
	impatient, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	_, err := w.askInflux(impatient, showTags, nil)
	var he *httpError
	if !errors.As(err, &he) || he.status != 503 || !strings.Contains(he.text, "busy: 2 queries") {
		t.Errorf("%v", err)
	}
	if value(t, w.metrics.influxErrors.WithLabelValues(whyBusy)) < 1 {
		t.Error("busy is not counted")
	}
	// A fifth request runs as soon as another one ends.
	go ask()
	release <- struct{}{}
	(<-answers).contains(t, 404, "")
	<-entered
	close(release)
	(<-answers).contains(t, 404, "")
	(<-answers).contains(t, 404, "")
}

// When a client disconnects, its query is cancelled.
func TestClientGoesAway(t *testing.T) {
	w := startWorld(t, nil)
	entered, ended := make(chan struct{}), make(chan error, 1)
	w.influx.query = func(ctx context.Context, _ string, _ map[string]any) ([]models.Row, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() {
		_, err := w.client.Do(tokenRequest(t, w, "/hourly/cpu").WithContext(ctx))
		gone <- err
	}()
	<-entered
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the query ended with %v", err)
	}
	<-gone
	stopped(t, w)
	for _, why := range []string{whyUnavailable, whyTimeout, whyBusy} {
		if n := value(t, w.metrics.influxErrors.WithLabelValues(why)); n != 0 {
			t.Errorf("InfluxDB is blamed %v times: %s", n, why)
		}
	}
	if n := value(t, w.metrics.requests.WithLabelValues("/hourly/{stat}", "GET", "499")); n != 1 {
		t.Errorf("%v requests counted as given up", n)
	}
}
