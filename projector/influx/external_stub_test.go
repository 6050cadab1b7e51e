package influx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/projector/influx"
)

// stub starts an InfluxDB that answers every request by a function, and opens a store on it.
func stub(t *testing.T, o influx.ExternalOptions, answer func(w http.ResponseWriter, r *http.Request, body string)) influx.Store {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			zr, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Errorf("gzip: %v", err)
				return
			}
			in = zr
		}
		body, err := io.ReadAll(in)
		if err != nil && r.Context().Err() == nil {
			t.Errorf("body: %v", err)
		}
		w.Header().Set("X-Influxdb-Version", "1.8.10")
		answer(w, r, string(body))
	}))
	t.Cleanup(server.Close)
	if o.Address == "" {
		o.Address = server.URL
	} else {
		o.Address = strings.Replace(server.URL, "http://", "http://"+o.Address, 1)
	}
	return openExternal(t, o)
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// batch returns n points of one hour, each with its own host.
func batch(n int) []influx.Point {
	points := make([]influx.Point, n)
	for i := range points {
		points[i] = influx.Point{
			Series: influx.NewSeries("cpu", influx.Tag{Key: "host", Value: fmt.Sprint("h", i)}),
			Fields: []influx.Field{{Key: "cpu", Value: float64(i)}},
			Time:   time.Date(2026, 11, 20, 10, 0, 0, i, time.UTC).UnixNano(),
		}
	}
	return points
}

// TestWriteAnswers lists the answers of /write and what they mean.
func TestWriteAnswers(t *testing.T) {
	const ok = influx.Kind(-1)
	for _, c := range []struct {
		name   string
		status int
		body   string
		kind   influx.Kind
		want   influx.WriteResult
	}{
		{"all written", 204, "", ok, influx.WriteResult{}},
		{"beyond retention", 400, `{"error":"partial write: points beyond retention policy dropped=2"}`, ok, influx.WriteResult{Dropped: 2}},
		{"type conflict", 400, `{"error":"partial write: field type conflict: input field \"cpu\" on measurement \"cpu\" is type float, already exists as type integer dropped=1"}`, ok,
			influx.WriteResult{Rejected: 1, Reason: `field type conflict: input field "cpu" on measurement "cpu" is type float, already exists as type integer`}},
		{"some unparsable", 400, `{"error":"partial write: unable to parse 'a': missing fields\nunable to parse 'b': missing fields dropped=0"}`, ok,
			influx.WriteResult{Rejected: 2, Reason: "unable to parse 'a': missing fields unable to parse 'b': missing fields"}},
		{"all unparsable", 400, `{"error":"unable to parse 'x': missing fields"}`, ok,
			influx.WriteResult{Rejected: 3, Reason: "unable to parse 'x': missing fields"}},
		{"max values", 400, `{"error":"partial write: max-values-per-tag limit exceeded (100000/100000): measurement=\"cpu\" tag=\"host\" value=\"x\" dropped=3"}`, ok,
			influx.WriteResult{Rejected: 3, Limit: true, Reason: `max-values-per-tag limit exceeded (100000/100000): measurement="cpu" tag="host" value="x"`}},
		{"max series", 400, `{"error":"partial write: max-series-per-database limit exceeded: (1000000) dropped=3"}`, ok,
			influx.WriteResult{Rejected: 3, Limit: true, Reason: "max-series-per-database limit exceeded: (1000000)"}},
		{"strange 400", 400, `{"error":"unexpected EOF"}`, influx.Temporary, influx.WriteResult{}},
		{"no database", 404, `{"error":"database not found: \"statistics\""}`, influx.Schema, influx.WriteResult{}},
		{"no policy", 500, `{"error":"retention policy not found: one_day"}`, influx.Schema, influx.WriteResult{}},
		{"not an InfluxDB", 404, "404 page not found", influx.Temporary, influx.WriteResult{}},
		{"timeout", 500, `{"error":"timeout"}`, influx.Temporary, influx.WriteResult{}},
		{"cache full", 500, `{"error":"engine: cache-max-memory-size exceeded: (1/1)"}`, influx.Temporary, influx.WriteResult{}},
		{"overload", 503, `{"error":"request throttled"}`, influx.Temporary, influx.WriteResult{}},
		{"overload without a word", 503, "", influx.Temporary, influx.WriteResult{}},
		{"too many", 429, "", influx.Temporary, influx.WriteResult{}},
		{"bad gateway", 502, "<html>nginx</html>", influx.Temporary, influx.WriteResult{}},
		{"moved", 301, "", influx.Temporary, influx.WriteResult{}},
		{"a page", 200, "<html>login</html>", influx.Temporary, influx.WriteResult{}},
		{"unauthorised", 401, `{"error":"authorization failed"}`, influx.Auth, influx.WriteResult{}},
		{"forbidden", 403, `{"error":"\"pulse\" user is not authorized to write to database \"statistics\""}`, influx.Auth, influx.WriteResult{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, r *http.Request, body string) {
				q := r.URL.Query()
				if r.Method != http.MethodPost || r.URL.Path != "/write" || q.Get("db") != "statistics" || q.Get("rp") != "one_week" || q.Get("precision") != "ns" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				if strings.Count(body, "\n") != 3 {
					t.Errorf("body %q", body)
				}
				answer(w, c.status, c.body)
			})
			res, err := s.Write(t.Context(), influx.PolicyAggregate, batch(3))
			if res != c.want {
				t.Errorf("result %+v, expected %+v", res, c.want)
			}
			if c.kind == ok {
				if err != nil {
					t.Errorf("error %v", err)
				}
				return
			}
			e, isError := errors.AsType[*influx.Error](err)
			if !isError || e.Kind != c.kind || e.Status != c.status || e.Op != "write" {
				t.Errorf("error %#v, expected kind %v", err, c.kind)
			}
		})
	}
}

// A proxy's answer of status 400 says nothing about the points.
func TestWriteForeign400(t *testing.T) {
	s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Del("X-Influxdb-Version")
		answer(w, 400, "unable to parse 'x': Client sent an HTTP request to an HTTPS server.")
	})
	if _, err := s.Write(t.Context(), influx.PolicyRaw, batch(1)); influx.KindOf(err) != influx.Temporary || !strings.Contains(fmt.Sprint(err), "check the address") {
		t.Errorf("error %v", err)
	}
}

// A 413 halves the requests until they pass, and the store remembers the size. It gives up only on
// a point that is too large by itself.
func TestWriteTooLarge(t *testing.T) {
	for _, c := range []influx.Compression{influx.CompressOff, influx.CompressOn} {
		var requests, refused, lines atomic.Int64
		s := stub(t, influx.ExternalOptions{Compression: c}, func(w http.ResponseWriter, _ *http.Request, body string) {
			requests.Add(1)
			if len(body) > 1000 {
				refused.Add(1)
				answer(w, http.StatusRequestEntityTooLarge, "")
				return
			}
			lines.Add(int64(strings.Count(body, "\n")))
			w.WriteHeader(http.StatusNoContent)
		})
		if res, err := s.Write(t.Context(), influx.PolicyRaw, batch(500)); err != nil || res != (influx.WriteResult{}) || lines.Load() != 500 {
			t.Fatalf("%+v, %v, %d lines", res, err, lines.Load())
		}
		first := refused.Load()
		if _, err := s.Write(t.Context(), influx.PolicyRaw, batch(500)); err != nil || refused.Load() != first {
			t.Errorf("the size was not remembered: refused %d times, then %d (%v)", first, refused.Load(), err)
		}
		lines.Store(0)
		points := batch(5)
		points[2].Series = influx.NewSeries("cpu", influx.Tag{Key: "host", Value: strings.Repeat("x", 2000)})
		points[3].Fields = []influx.Field{{Key: "cpu", Value: math.NaN()}}
		if res, err := s.Write(t.Context(), influx.PolicyRaw, points); err != nil || res.Rejected != 2 || lines.Load() != 3 {
			t.Errorf("%+v, %v, %d lines, expected 2 rejected and 3 written", res, err, lines.Load())
		}
	}
}

// A server answers for one shard only. So after a refusal a batch over several hours is sent again
// hour by hour: the counts are complete, and an error of another shard is not taken for success.
func TestWriteRefusalsByHour(t *testing.T) {
	var requests atomic.Int64
	fail := ""
	s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, _ *http.Request, body string) {
		requests.Add(1)
		hours := map[string]int{}
		for line := range strings.Lines(body) {
			hours[line[strings.LastIndexByte(line, ' ')+1:][:7]]++
		}
		if len(hours) == 1 && fail != "" && strings.Contains(body, fail) {
			answer(w, 500, `{"error":"engine: cache-max-memory-size exceeded"}`)
			return
		}
		answer(w, 400, `{"error":"partial write: field type conflict: x dropped=1"}`)
	})
	points := batch(6)
	for i := range points {
		points[i].Time = 1_795_000_000_000_000_000 + int64(i%3)*int64(time.Hour)
	}
	res, err := s.Write(t.Context(), influx.PolicyRaw, points)
	if err != nil || res.Rejected != 3 || requests.Load() != 4 {
		t.Errorf("%+v, %v, %d requests, expected one refusal of each of 3 hours", res, err, requests.Load())
	}
	fail = "h5"
	if res, err := s.Write(t.Context(), influx.PolicyRaw, points); influx.KindOf(err) != influx.Temporary || err == nil || res != (influx.WriteResult{}) {
		t.Errorf("%+v, %v: an hour that failed was taken for written", res, err)
	}
}

func TestQueryAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		kind   influx.Kind
	}{
		{"statement error", 200, `{"results":[{"statement_id":0,"error":"undefined function nothing()"}]}`, influx.Invalid},
		{"no database", 200, `{"results":[{"statement_id":0,"error":"database not found: statistics"}]}`, influx.Schema},
		{"query timeout", 200, `{"results":[{"statement_id":0,"error":"query-timeout limit exceeded"}]}`, influx.Temporary},
		{"parse error", 400, `{"error":"error parsing query: found x"}`, influx.Invalid},
		{"unauthorised", 401, `{"error":"authorization failed"}`, influx.Auth},
		{"forbidden", 403, `{"error":"error authorizing query"}`, influx.Auth},
		{"server error", 500, `{"error":"oh"}`, influx.Temporary},
		{"overload", 503, ``, influx.Temporary},
		{"cut off", 200, `{"results":[{"statement_id":0,"ser`, influx.Temporary},
		{"not JSON", 200, `hello`, influx.Temporary},
		{"not a number", 200, `{"results":[{"series":[{"columns":["time"],"values":[[1.5]]}]}]}`, influx.Temporary},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, r *http.Request, body string) {
				if r.Method != http.MethodPost || r.URL.Path != "/query" || r.URL.RawQuery != "" || !strings.Contains(body, "q=SELECT") {
					t.Errorf("%s %s %q", r.Method, r.URL, body)
				}
				answer(w, c.status, c.body)
			})
			_, err := s.Query(t.Context(), `SELECT "cpu" FROM "cpu" WHERE "host" = $h`, map[string]any{"h": "x"})
			e, ok := errors.AsType[*influx.Error](err)
			if !ok || e.Kind != c.kind || e.Op != "query" {
				t.Errorf("error %#v, expected kind %v", err, c.kind)
			}
		})
	}
}

func TestPingAnswers(t *testing.T) {
	for status, kind := range map[int]influx.Kind{401: influx.Auth, 500: influx.Temporary, 404: influx.Temporary} {
		s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, _ *http.Request, _ string) { answer(w, status, "") })
		if _, err := s.Ping(t.Context()); err == nil || influx.KindOf(err) != kind {
			t.Errorf("status %d: %v", status, err)
		}
	}
	s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Del("X-Influxdb-Version")
		w.WriteHeader(204)
	})
	if _, err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "check the address") {
		t.Errorf("another server: %v", err)
	}
}

func TestAuth(t *testing.T) {
	s := stub(t, influx.ExternalOptions{Address: "pulse:p%40ss@"}, func(w http.ResponseWriter, r *http.Request, _ string) {
		if user, password, ok := r.BasicAuth(); !ok || user != "pulse" || password != "p@ss" {
			t.Errorf("user %q, password %q", user, password)
		}
		w.WriteHeader(503)
	})
	s.Ping(t.Context())
	_, err := s.Write(t.Context(), influx.PolicyRaw, batch(1))
	if err == nil || strings.Contains(err.Error(), "ss@") || strings.Contains(err.Error(), "p%40ss") {
		t.Errorf("error %v", err)
	}
	s.Query(t.Context(), "SHOW DATABASES", nil)
}

func TestRefused(t *testing.T) {
	s := openExternal(t, influx.ExternalOptions{Address: "http://user:hidden@" + freeport.Of(t)})
	_, ping := s.Ping(t.Context())
	_, write := s.Write(t.Context(), influx.PolicyRaw, batch(1))
	_, query := s.Query(t.Context(), "SHOW DATABASES", nil)
	for _, err := range []error{ping, write, query} {
		if e, ok := errors.AsType[*influx.Error](err); !ok || e.Kind != influx.Temporary || e.Status != 0 || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%#v", err)
		}
	}
}

// A server accepts and never answers. The store's own limit ends the call, the caller's context
// ends it sooner, and Close ends a query.
func TestHanging(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }
	s := stub(t, influx.ExternalOptions{Timeout: 100 * time.Millisecond}, hang)
	if _, err := s.Write(t.Context(), influx.PolicyRaw, batch(1)); !errors.Is(err, context.DeadlineExceeded) || influx.KindOf(err) != influx.Temporary {
		t.Errorf("write: %v", err)
	}
	entered := make(chan struct{}, 8)
	s = stub(t, influx.ExternalOptions{Timeout: time.Hour}, func(w http.ResponseWriter, r *http.Request, body string) {
		entered <- struct{}{}
		hang(w, r, body)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("shutting down")
	go func() { <-entered; cancel(reason) }()
	if _, err := s.Write(ctx, influx.PolicyRaw, batch(1)); !errors.Is(err, reason) {
		t.Errorf("cancelled write: %v", err)
	}
	failed := make(chan error)
	go func() { _, err := s.Query(t.Context(), "SHOW DATABASES", nil); failed <- err }()
	<-entered
	s.Close()
	if err := <-failed; !errors.Is(err, influx.ErrClosed) {
		t.Errorf("query under Close: %v", err)
	}
}

// A server closes a connection just as it is used again. This costs nothing, because the transport
// knows that a write may be repeated.
func TestWriteOnAConnectionJustClosed(t *testing.T) {
	var requests atomic.Int64
	s := stub(t, influx.ExternalOptions{}, func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Count(body, "\n") != 10 {
			t.Errorf("body %q", body)
		}
		if requests.Add(1) == 2 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		w.WriteHeader(204)
	})
	for range 2 {
		if _, err := s.Write(t.Context(), influx.PolicyRaw, batch(10)); err != nil {
			t.Fatal(err)
		}
	}
	if requests.Load() != 3 {
		t.Errorf("%d requests, expected 3", requests.Load())
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Influxdb-Version", "1.8.10")
		w.WriteHeader(204)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(server.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openExternal(t, influx.ExternalOptions{Address: server.URL}).Ping(t.Context()); influx.KindOf(err) != influx.Temporary || err == nil {
		t.Errorf("an unknown certificate: %v", err)
	}
	for _, o := range []influx.ExternalOptions{{CAFile: ca}, {InsecureSkipVerify: true}} {
		o.Address = server.URL
		if version, err := openExternal(t, o).Ping(t.Context()); err != nil || version != "1.8.10" {
			t.Errorf("%+v: %q, %v", o, version, err)
		}
	}
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), os.Args[0]} {
		if _, err := influx.OpenExternal(influx.ExternalOptions{Address: server.URL, CAFile: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("CA file %s: %v", file, err)
		}
	}
}
