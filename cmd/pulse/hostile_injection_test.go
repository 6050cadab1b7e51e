package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
)

// overheard holds the statements that a server sends to its InfluxDB.
type overheard struct {
	mu         sync.Mutex
	statements []heard
}

type heard struct{ text, params string }

// eavesdrop puts a proxy in front of an InfluxDB. The proxy records every statement as it is in the
// request.
func eavesdrop(t *testing.T, addr string) (*overheard, string) {
	t.Helper()
	target, err := url.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	o, forward := &overheard{}, httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/query" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the server was stopped during the request
			}
			form, err := url.ParseQuery(string(body))
			if err != nil || len(r.URL.Query()["q"]) > 0 || len(form["q"]) != 1 {
				t.Errorf("a request with the statements %q and %q, %v", r.URL.Query()["q"], form["q"], err)
			}
			o.mu.Lock()
			o.statements = append(o.statements, heard{form.Get("q"), form.Get("params")})
			o.mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return o, proxy.URL
}

// TestInjectionOnTheWire puts every text of the corpus into every place of every route of a real
// server. It compares the statements that InfluxDB gets with the form of a history query and with
// the few other statements of Pulse.
func TestInjectionOnTheWire(t *testing.T) {
	t.Parallel()
	db := testtools.StartInfluxd(t, testtools.InfluxDB18)
	wire, address := eavesdrop(t, db.Addr)
	s := startServer(t, t.TempDir(), "--influx-address", address, "-l", "ERROR")
	store := openExternal(t, db.Addr)
	defer store.Close()
	await(t, s, "the schema", time.Minute, func() error {
		_, err := store.Query(t.Context(), `SHOW FIELD KEYS ON "statistics" FROM "one_week"."aggregate"`, nil)
		return err
	})
	before := inventory(t, db.Addr)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	requests := make(chan [3]string)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for r := range requests {
				injectOne(t, client, "http://"+s.HTTPAddr, r)
			}
		})
	}
	corpus := injections(t)
	for _, evil := range corpus {
		for _, r := range places(evil) {
			requests <- r
		}
	}
	close(requests)
	all.Wait()

	history := 0
	wire.mu.Lock()
	defer wire.mu.Unlock()
	for _, said := range wire.statements {
		form, ok := formOf(said.text)
		if !ok {
			t.Errorf("InfluxDB was told %q (%q)", said.text, form)
		}
		var params map[string]string
		if err := json.Unmarshal([]byte(said.params), &params); said.params != "" && err != nil {
			t.Errorf("%q came with parameters that are not all text: %s", said.text, said.params)
		}
		if strings.HasPrefix(form, "SELECT") {
			history++
		}
	}
	if history < 10*len(corpus) {
		t.Errorf("only %d of %d statements were about history: the corpus does not reach them", history, len(wire.statements))
	}
	if after := inventory(t, db.Addr); after != before {
		t.Errorf("InfluxDB held\n%s\nand holds\n%s", before, after)
	}
	if n, err := s.Metric("pulse_query_panics_total"); err != nil || n != 0 {
		t.Errorf("%v panics, %v", n, err)
	}
}

// injections returns the corpus of query's tests.
func injections(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "query", "testdata", "injection.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		evil, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, evil)
	}
	return list
}

// places returns requests (method, target, body) with a text in every place that can hold one.
func places(evil string) (list [][3]string) {
	q, path := url.QueryEscape(evil), url.PathEscape(evil)
	for _, kind := range []string{"latest", "hourly", "daily"} {
		for _, target := range []string{path, "x?verb=" + q, "x?start=" + q, "x?stop=" + q, "x?backfill=" + q, "x?host=" + q,
			"x?host=a&host=" + q + "&service=" + q, "x?" + q + "=y", path + "?" + q + "=" + q, "x?X-AUTH-TOKEN=" + q} {
			list = append(list, [3]string{"GET", "/" + kind + "/" + target})
		}
	}
	for _, target := range []string{"/ping?", "/keys?", "/tags?", "/relays?", "/overrides?", "/alerts?", "/replay?", "/status?", "/rejects?", "/metrics?", "/healthz?", "/readyz?"} {
		list = append(list, [3]string{"GET", target + q + "=" + q})
	}
	list = append(list, [3]string{"GET", "/rejects?projection=" + q})
	// HEAD gives only the headers of a stream, which would not end.
	for _, target := range []string{"/live/" + path, "/live/x?host=" + q, "/live?" + q + "=y", "/live?last-event-id=" + q, "/live?ticket=" + q, "/live?verb=" + q} {
		list = append(list, [3]string{"HEAD", target})
	}
	for _, at := range []string{"/alerts/", "/overrides/", "/replay/", "/"} {
		list = append(list, [3]string{"GET", at + path}, [3]string{"DELETE", at + path})
	}
	text, _ := json.Marshal(evil) // a string can always be encoded
	e := string(text)
	for _, at := range []string{"/alerts", "/overrides", "/replay", "/flush", "/live/ticket"} {
		list = append(list, [3]string{"POST", at, evil}, [3]string{"POST", at, "{" + e + ":" + e + "}"})
	}
	for _, body := range []string{`{"projection":` + e + `,"from":"1h"}`, `{"projection":"raw","from":` + e + `}`, `{"projection":"raw","from":"1h","to":` + e + `}`} {
		list = append(list, [3]string{"POST", "/replay", strings.TrimSuffix(body, "}") + `,"dry_run":"no"}`}) // always refused
	}
	for _, body := range []string{
		`{"duration":` + e + `,"collectors":{"cpu":5}}`, `{"duration":60,"collectors":{` + e + `:5}}`, `{"duration":60,"collectors":{"cpu":` + e + `}}`,
	} {
		list = append(list, [3]string{"POST", "/overrides", body})
	}
	list = append(list, [3]string{"POST", "/flush", `{"relays":[` + e + `]}`})
	for _, field := range []string{"id", "metric", "level", "operator", "threshold", "duration", "post", "every", "recover", "deadman", "tags"} {
		list = append(list, [3]string{"PUT", "/alerts", `{"id":"none","metric":"x","threshold":1,"post":"http://127.0.0.1/",` + strconv.Quote(field) + `:` + e + `}`})
	}
	list = append(list, [3]string{"PUT", "/alerts", `{"id":"none","metric":"x","threshold":1,"post":"http://127.0.0.1/","tags":{` + e + `:` + e + `}}`})
	return list
}

// injectOne sends one request. The answer must never be a failure of the server.
func injectOne(t *testing.T, client *http.Client, address string, r [3]string) {
	request, err := http.NewRequest(r[0], address+r[1], strings.NewReader(r[2]))
	if err != nil {
		t.Errorf("%q: %v", r, err)
		return
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	response, err := client.Do(request)
	if err != nil {
		t.Errorf("%q: %v", r, err)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 500 && !(r[1] == "/live/ticket" && response.StatusCode == 503) {
		t.Errorf("%q: %d %s, %v", r, response.StatusCode, body, err)
	}
}

var (
	quoted   = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"`)
	number   = regexp.MustCompile(`\d+`)
	oneOf    = strings.Join([]string{"mean", "min", "max", "sum", "count", "first", "last", "median", "mode", "spread", "stddev"}, "|")
	question = regexp.MustCompile(`^SELECT (?:(?:(?:` + oneOf + `)\(N\)|N) AS N(?:, )?)+ FROM N\.N\.N WHERE time >= # AND time < #` +
		`(?: AND \(N::tag = \$p#(?: OR N::tag = \$p#)*\))*(?: GROUP BY time\(#s\) fill\(none\))?$`)
)

// formOf returns a statement without its names and numbers, and reports whether Pulse may send such
// a statement.
func formOf(statement string) (form string, ok bool) {
	form = number.ReplaceAllString(quoted.ReplaceAllString(statement, "N"), "#")
	if question.MatchString(form) {
		return form, strings.Contains(statement, ` FROM "statistics"."one_week"."aggregate" WHERE `)
	}
	return form, slices.Contains([]string{
		`SHOW FIELD KEYS ON "statistics" FROM "one_week"."aggregate"`, `SHOW TAG KEYS ON "statistics" FROM "one_week"."aggregate"`,
		// These are for the schema, and for the check whether there is data of 0.2 to take over.
		`SHOW DATABASES`, `SHOW RETENTION POLICIES ON "statistics"`, `SHOW CONTINUOUS QUERIES`,
		`CREATE DATABASE "statistics" WITH DURATION 28800s REPLICATION 1 NAME "one_day"`,
		`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 604800s REPLICATION 1 SHARD DURATION 86400s`,
		`SELECT * FROM "statistics"."one_week"."aggregate" ORDER BY time ASC LIMIT 1`,
	}, statement)
}

// inventory returns the databases, policies, queries and users of an InfluxDB.
func inventory(t *testing.T, addr string) string {
	t.Helper()
	store := openExternal(t, addr)
	defer store.Close()
	var b strings.Builder
	for _, statement := range []string{`SHOW DATABASES`, `SHOW RETENTION POLICIES ON "statistics"`, `SHOW CONTINUOUS QUERIES`, `SHOW USERS`, `SHOW MEASUREMENTS ON "statistics"`, `SHOW SERIES ON "statistics"`} {
		rows, err := store.Query(t.Context(), statement, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.Name != "_internal" {
				fmt.Fprintln(&b, statement, row.Name, row.Values)
			}
		}
	}
	return b.String()
}
