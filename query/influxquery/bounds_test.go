package influxquery_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/query/influxquery"
)

// readFunc is a store.
type readFunc func(ctx context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error

func (f readFunc) Read(ctx context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error {
	return f(ctx, r, visit)
}

// rows sends n parts of 1,000 rows of one series.
func rows(n int) readFunc {
	return func(_ context.Context, _ influx.ReadRequest, visit func(influx.ReadResult) error) error {
		for i := range n {
			row := models.Row{Name: "cpu", Columns: []string{"time", "cpu"}}
			for range 1000 {
				row.Values = append(row.Values, []any{time.Unix(0, 0), 1.5})
			}
			if err := visit(influx.ReadResult{Series: []models.Row{row}, Partial: i < n-1}); err != nil {
				return err
			}
		}
		return nil
	}
}

const oneSelect = "db=statistics&q=SELECT+*+FROM+cpu"

// What is too long, too deep, too many or too fine is refused before the store is asked.
func TestBoundsOfRequests(t *testing.T) {
	address := serve(t, influxquery.Options{Store: readFunc(func(context.Context, influx.ReadRequest, func(influx.ReadResult) error) error {
		t.Error("the store was asked")
		return nil
	})})
	c := client(t)
	for what, q := range map[string]string{
		"it is over 262144 bytes":                               "SELECT " + strings.Repeat("a, ", 100_000) + "a FROM b",
		"over 200 parentheses in one another":                   "SELECT " + strings.Repeat("(", 5000) + "a" + strings.Repeat(")", 5000) + " FROM b",
		"101 statements in one request":                         strings.Repeat("SHOW DATABASES;", 101),
		"max-select-buckets limit exceeded: (7199999/100000)":   "SELECT mean(a) FROM b WHERE time >= 0 AND time < 7200s GROUP BY time(1ms)",
		"max-select-buckets limit exceeded: (31449599/100000)":  "SELECT mean(a) FROM b WHERE time > now() - 52w GROUP BY time(1s)",
		"max-select-buckets limit exceeded: (604799/100000)":    "SELECT max(m) FROM (SELECT mean(a) AS m FROM b GROUP BY time(1s)) WHERE time >= 0 AND time < 1w",
		"max-select-buckets limit exceeded: (86399999/100000)":  "SELECT max(m) FROM (SELECT mean(a) AS m FROM b WHERE time >= 0 AND time < 1d GROUP BY time(1ms, 3ms))",
		"error parsing query: found EOF, expected identifier, ": "SELECT",
	} {
		got := ask(t, c, address, "POST", "", encode([]string{"db=statistics", "q=" + q}))
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, what) {
			t.Errorf("%.60s: %d %.300s, expected %q", q, got.status, got.body, what)
		}
	}
}

// An answer is complete in memory only up to a size. In chunks it may be larger.
func TestBoundOfAnswers(t *testing.T) {
	address := serve(t, influxquery.Options{Store: rows(100), Values: 50_000})
	c := client(t)
	got := ask(t, c, address, "GET", oneSelect, "")
	if got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"results":[{"statement_id":0,"error":"the answer is too large: `) {
		t.Errorf("%d %.200s", got.status, got.body)
	}
	if got = ask(t, c, address, "GET", oneSelect+"&chunked=true", ""); strings.Count(got.body, `"results"`) != 100 || strings.Contains(got.body, "error") {
		t.Errorf("%d %.200s", got.status, got.body)
	}
	address = serve(t, influxquery.Options{Store: rows(20), Values: 50_000})
	if got = ask(t, c, address, "GET", oneSelect, ""); strings.Count(got.body, "1.5") != 20_000 || strings.Contains(got.body, "partial") {
		t.Errorf("%d %.200s", got.status, got.body)
	}
}

// So many run at a time. The others wait, and are refused after a while.
func TestRequestsTakeTurns(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	address := serve(t, influxquery.Options{AtOnce: 2, Wait: 20 * time.Millisecond, Store: readFunc(
		func(_ context.Context, _ influx.ReadRequest, visit func(influx.ReadResult) error) error {
			inside <- struct{}{}
			<-release
			return visit(influx.ReadResult{})
		})})
	c := client(t)
	answers := make(chan answer)
	for range 2 {
		go func() { answers <- ask(t, c, address, "GET", oneSelect, "") }()
		<-inside
	}
	if got := ask(t, c, address, "GET", oneSelect, ""); got.status != http.StatusServiceUnavailable || got.body != `{"error":"max-concurrent-queries limit exceeded(2, 2)"}`+"\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	close(release)
	for range 2 {
		if got := <-answers; got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

// A request that takes too long, and a store that fails, are said as InfluxDB says them. What the
// store says of itself stays in the log.
func TestFailures(t *testing.T) {
	c := client(t)
	for _, x := range []struct {
		name   string
		read   readFunc
		query  string
		status int
		want   string
	}{
		{"time", func(ctx context.Context, _ influx.ReadRequest, visit func(influx.ReadResult) error) error {
			if err := visit(influx.ReadResult{Statement: 0, Messages: []influx.ReadMessage{{Level: "warning", Text: "slow"}}}); err != nil {
				return err
			}
			<-ctx.Done()
			return influx.ContextError("read", ctx)
		}, "db=statistics&q=SHOW+DATABASES%3BSELECT+*+FROM+cpu", 200, `{"results":[{"statement_id":0,"messages":[{"level":"warning","text":"slow"}]},{"statement_id":1,"error":"query-timeout limit exceeded: no answer within 50ms"}]}`},
		{"time, in chunks", func(ctx context.Context, _ influx.ReadRequest, visit func(influx.ReadResult) error) error {
			if err := visit(influx.ReadResult{Partial: true}); err != nil {
				return err
			}
			<-ctx.Done()
			return influx.ContextError("read", ctx)
		}, oneSelect + "&chunked=true", 200, `{"results":[{"statement_id":0,"partial":true}]}` + "\n" + `{"results":[{"statement_id":0,"error":"query-timeout limit exceeded: no answer within 50ms"}]}`},
		{"outage", func(context.Context, influx.ReadRequest, func(influx.ReadResult) error) error {
			return &influx.Error{Op: "read", Err: errors.New("dial tcp: secret.example.org refuses")}
		}, oneSelect, 503, `{"error":"InfluxDB does not answer: the server's log says why"}`},
		{"refusal", func(context.Context, influx.ReadRequest, func(influx.ReadResult) error) error {
			return &influx.Error{Op: "read", Kind: influx.Invalid, Err: errors.New("no such function")}
		}, oneSelect, 400, `{"error":"no such function"}`},
		{"outage in the middle", func(_ context.Context, _ influx.ReadRequest, visit func(influx.ReadResult) error) error {
			if err := visit(influx.ReadResult{Partial: true}); err != nil {
				return err
			}
			return &influx.Error{Op: "read", Err: errors.New("connection reset")}
		}, oneSelect + "&chunked=true", 200, `{"results":[{"statement_id":0,"partial":true}]}` + "\n" + `{"results":[{"statement_id":0,"error":"InfluxDB does not answer: the server's log says why"}]}`},
	} {
		address := serve(t, influxquery.Options{Store: x.read, Timeout: 50 * time.Millisecond})
		if got := ask(t, c, address, "GET", x.query, ""); got.status != x.status || got.body != x.want+"\n" {
			t.Errorf("%s: %d %s", x.name, got.status, got.body)
		}
	}
}

// A client that leaves ends its query.
func TestClientLeaves(t *testing.T) {
	inside, ended := make(chan struct{}), make(chan error)
	address := serve(t, influxquery.Options{Store: readFunc(func(ctx context.Context, _ influx.ReadRequest, _ func(influx.ReadResult) error) error {
		close(inside)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return influx.ContextError("read", ctx)
	})})
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "GET", address+"/query?"+oneSelect, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-inside
		cancel()
	}()
	if _, err := client(t).Do(request); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the query goes on")
	}
}

// The embedded engine counts what a SELECT would read before it reads, over all shards and fields.
func TestBoundOfSeries(t *testing.T) {
	store := openEmbedded(t, embedded.Options{ReadCursors: 20})
	fill(t, store)
	address, c := serve(t, influxquery.Options{Store: store}), client(t)
	limit := `"error":"max-select-series limit exceeded: (`
	for q, refused := range map[string]bool{
		`SELECT "cpu_used" FROM "cpu_used"`:                                                                       false, // 3 series in 2 hours
		`SELECT mean("cpu_used") FROM "cpu_used" WHERE "host" = 'web1' AND "zone" = 'us'`:                         false,
		`SELECT "cpu_used", "cpu_used:max", "cpu_used:min" FROM "one_week"."aggregate"`:                           false,
		`SELECT * FROM "one_week"."aggregate"; SELECT "cpu_used" FROM "cpu_used"`:                                 false,
		`SELECT * FROM "one_week"."aggregate" WHERE "cpu_used" > 0 AND "cpu_used:sum" > 0 AND "cpu_used:max" > 0`: true,
		`SELECT count(*), max("cpu_used") FROM "one_week"."aggregate"`:                                            true,
		`SELECT mean(*) FROM /.*/, "one_week"./.*/`:                                                               true,
		`SELECT max(a) FROM (SELECT mean("cpu_used") AS a, mean("cpu_used:sum") AS b, mean("cpu_used:min") AS c, mean("cpu_used:max") AS d, mean("cpu_used:last") AS e, mean("cpu_used:count") AS f FROM "one_week"."aggregate"), (SELECT mean("cpu_used") AS a FROM "one_week"."aggregate")`: true,
	} {
		got := ask(t, c, address, "POST", "", encode([]string{"db=statistics", "q=" + q}))
		if got.status != http.StatusOK || strings.Contains(got.body, limit) != refused {
			t.Errorf("%s: %d %.200s", q, got.status, got.body)
		}
	}
}
