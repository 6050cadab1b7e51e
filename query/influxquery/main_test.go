package influxquery_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxql"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/query/influxquery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the readings of the tests begin.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// fill makes Pulse's schema in a store, without retention, and writes two hours of readings and
// windows of three hosts.
func fill(t testing.TB, store influx.Store) {
	t.Helper()
	for _, statement := range []string{
		`CREATE DATABASE "statistics" WITH DURATION 0s REPLICATION 1 NAME "one_day"`,
		`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 0s REPLICATION 1`,
	} {
		if _, err := store.Query(t.Context(), statement, nil); err != nil {
			t.Fatal(err)
		}
	}
	var raw, windows []influx.Point
	for host := range 3 {
		tags := []influx.Tag{{Key: "host", Value: fmt.Sprint("web", host)}, {Key: "zone", Value: []string{"eu <1>", "us"}[host%2]}}
		for minute := range 120 {
			at := noon.Add(time.Duration(minute) * time.Minute).UnixNano()
			for i, stat := range []string{"cpu_used", "ram_used", `odd "stat"/`} {
				raw = append(raw, influx.Point{Series: influx.NewSeries(stat, tags...), Time: at,
					Fields: []influx.Field{{Key: stat, Value: float64(minute*(host+1))/7 + float64(i)*1e6}}})
			}
			if minute%15 == 0 {
				windows = append(windows, influx.Point{Series: influx.NewSeries("aggregate", tags...), Time: at, Fields: []influx.Field{
					{Key: "cpu_used", Value: float64(minute) / 3}, {Key: "cpu_used:count", Value: 15}, {Key: "cpu_used:sum", Value: float64(minute) * 5},
					{Key: "cpu_used:min", Value: -1e-9}, {Key: "cpu_used:max", Value: 1e21}, {Key: "cpu_used:last", Value: 0}}})
			}
		}
	}
	for policy, points := range map[influx.Policy][]influx.Point{influx.PolicyRaw: raw, influx.PolicyAggregate: windows} {
		if result, err := store.Write(t.Context(), policy, points); err != nil || result != (influx.WriteResult{}) {
			t.Fatal(result, err)
		}
	}
}

func openEmbedded(t testing.TB, o embedded.Options) *embedded.Store {
	t.Helper()
	o.Dir = t.TempDir()
	store, err := embedded.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func openServer(t testing.TB, server *testtools.Server) influx.Store {
	t.Helper()
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// serve returns the address of a server whose /query is a Handler.
func serve(t testing.TB, o influxquery.Options) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/query", influxquery.New(o))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// answer is what a client sees.
type answer struct {
	status int
	kind   string
	body   string
}

// client closes its connections with the test.
func client(t testing.TB) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask sends a request: its query or form, and headers as "Name: value".
func ask(t testing.TB, c *http.Client, address, method, query, form string, headers ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address+"/query?"+query, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(body)}
}

func mustParse(t testing.TB, text string) influxql.Statements {
	t.Helper()
	q, err := influxql.ParseQuery(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q.Statements
}

// toText is a value of a row as text.
func toText(v any) string { return fmt.Sprint(v) }
