package query

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/projector/latest"
)

// raw sends bytes over a connection of its own and reads one answer.
func raw(t testing.TB, w *world, request string) answer {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// withRoute adds a route before the server starts.
func withRoute(t testing.TB, change func(*Options), path string, h handler) *world {
	t.Helper()
	w := newWorld(t, change)
	w.router, w.methods = w.newRouter(append(w.routes(), route{method: "GET", path: path, handle: h, access: reading}))
	w.Start()
	return w
}

func TestOptionsValidated(t *testing.T) {
	good := func() Options {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return Options{Listener: l, Latest: &fakeLatest{}, Influx: &fakeInflux{}, Relays: &fakeRelays{},
			Journal: &fakeJournal{}, Projections: &fakeProjections{}}
	}
	for want, change := range map[string]func(*Options){
		"Options.Latest":      func(o *Options) { o.Latest = nil },
		"Options.Influx":      func(o *Options) { o.Influx = nil },
		"Options.Relays":      func(o *Options) { o.Relays = nil },
		"Options.Journal":     func(o *Options) { o.Journal = nil },
		"Options.Projections": func(o *Options) { o.Projections = nil },
		`api-compat "0.3"`:    func(o *Options) { o.Compat = "0.3" },
		"whole minutes":       func(o *Options) { o.AggregateInterval = 90 * time.Second },
		"at least one":        func(o *Options) { o.AggregateInterval = -time.Minute },
		"negative":            func(o *Options) { o.PollInterval = -1 },
	} {
		o := good()
		change(&o)
		if s, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v %v", want, s, err)
		}
		if _, err := o.Listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener was left open: %v", want, err)
		}
	}
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "Options.Listener") {
		t.Error(err)
	}
	s, err := New(good()) // the defaults are valid
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(context.Background()); err != nil { // never started
		t.Fatal(err)
	}
	s.Start() // too late, so it does nothing
	if _, err := net.DialTimeout("tcp", s.Addr().String(), time.Second); err == nil {
		t.Fatal("a stopped server accepted a connection")
	}
}

func TestPanicCostsOneAnswer(t *testing.T) {
	var log bytes.Buffer
	w := withRoute(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }, "/panic/{how}",
		func(w http.ResponseWriter, _ *http.Request, p params) error {
			if p.get("how") == "late" {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "half an ans")
			}
			w.Header().Set("Content-Length", "7")
			panic("secret detail")
		})
	w.get(t, "/panic/early").want(t, 500, `{"error":"internal error: the server's log has the details"}`+"\n")
	if _, err := w.client.Do(tokenRequest(t, w, "/panic/late")); err == nil {
		// The header may have been sent already. Then the body must not look complete.
		res, _ := w.client.Do(tokenRequest(t, w, "/panic/late"))
		if res != nil {
			if _, err := io.ReadAll(res.Body); err == nil {
				t.Error("half an answer looked like a whole one")
			}
			res.Body.Close()
		}
	}
	if got := value(t, w.metrics.panics); got < 2 {
		t.Errorf("%v panics counted", got)
	}
	w.get(t, "/ping").want(t, 200, "pong")
	if got := value(t, w.metrics.requests.WithLabelValues("/panic/{how}", "GET", "500")); got != 1 {
		t.Errorf("%v requests counted with 500", got)
	}
	stopped(t, w)
	if s := log.String(); !strings.Contains(s, "secret detail") || !strings.Contains(s, "server_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", s)
	}
}

// stopped stops the server, so that the test may read what the server's goroutines wrote.
func stopped(t testing.TB, w *world) {
	t.Helper()
	w.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func tokenRequest(t testing.TB, w *world, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-AUTH-TOKEN", testToken)
	return r
}

// An unexpected error gives a 500, and its text appears only in the log. So does an answer that
// cannot be encoded.
func TestInternalErrors(t *testing.T) {
	w := withRoute(t, nil, "/fail/{how}", func(rw http.ResponseWriter, _ *http.Request, p params) error {
		if p.get("how") == "encode" {
			(&Server{log: slog.New(slog.DiscardHandler)}).writeJSON(rw, 200, func() {})
			return nil
		}
		return errors.New("password is hunter2")
	})
	want := `{"error":"internal error: the server's log has the details"}` + "\n"
	w.get(t, "/fail/error").want(t, 500, want)
	w.get(t, "/fail/encode").want(t, 500, want)
}

// Stop waits for a running answer, and takes no new connection.
func TestStopWaitsForAnswers(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := withRoute(t, nil, "/slow", func(rw http.ResponseWriter, _ *http.Request, _ params) error {
		close(entered)
		<-release
		_, _ = io.WriteString(rw, "whole")
		return nil
	})
	got := make(chan answer, 1)
	go func() { got <- w.get(t, "/slow") }()
	<-entered
	done := make(chan error, 1)
	go func() { done <- w.Stop(context.Background()) }()
	eventually(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", w.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-done:
		t.Fatalf("Stop did not wait: %v", err)
	default:
	}
	close(release)
	(<-got).want(t, 200, "whole")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(context.Background()); err != nil {
		t.Fatalf("second Stop: %v", err)
	}
}

// When its time is over, Stop cancels running requests and returns an error.
func TestStopCutsOff(t *testing.T) {
	entered := make(chan struct{})
	ended := make(chan error, 1)
	w := withRoute(t, nil, "/stuck", func(_ http.ResponseWriter, r *http.Request, _ params) error {
		close(entered)
		<-r.Context().Done()
		ended <- r.Context().Err()
		return r.Context().Err()
	})
	failed := make(chan error, 1)
	go func() {
		res, err := w.client.Do(tokenRequest(t, w, "/stuck"))
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		failed <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := w.Stop(ctx)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "still under way") {
		t.Fatalf("Stop: %v", err)
	}
	<-ended
	<-failed
}

// A client that never finishes its headers is disconnected.
func TestSlowHeaders(t *testing.T) {
	w := newWorld(t, nil)
	if w.http.ReadHeaderTimeout != headerTimeout {
		t.Fatalf("header timeout %s", w.http.ReadHeaderTimeout)
	}
	w.http.ReadHeaderTimeout = 50 * time.Millisecond
	w.Start()
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Fatal("the connection was left open")
	}
	if strings.Contains(string(b), "200") {
		t.Fatalf("answered: %q", b)
	}
}

// A client that never sends the body that it announced gets an answer or is disconnected. It does
// not occupy the server for ever.
func TestSlowBody(t *testing.T) {
	w := newWorld(t, nil)
	w.http.ReadTimeout = 50 * time.Millisecond
	w.Start()
	raw(t, w, "POST /flush HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: "+testToken+"\r\nContent-Length: 10\r\n\r\n{").
		contains(t, 400, "the body could not be read")
}

func TestHugeRequests(t *testing.T) {
	w := startWorld(t, nil)
	w.control.flush = func([]string) int { return 0 }
	w.do(t, "POST", "/flush", `{"relays":["`+strings.Repeat("x", maxBodyBytes)+`"]}`).
		contains(t, 413, "the body is longer than 1048576 bytes")
	// A body is not read on routes that take none.
	raw(t, w, "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-AUTH-TOKEN: "+testToken+
		"\r\nContent-Length: 1000000000000\r\n\r\n").want(t, 200, "pong")
	for _, request := range []string{
		"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("x", maxHeaderBytes+8192) + "\r\n\r\n",
		"GET /healthz?" + strings.Repeat("x", maxHeaderBytes+8192) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: x\r\n", maxHeaderBytes/6+2000) + "\r\n",
	} {
		c, err := net.Dial("tcp", w.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, request)
		// The answer is 431. It is empty if the rest of the request was still in flight when the
		// server closed the connection.
		b, _ := io.ReadAll(c)
		c.Close()
		if len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 431 ")) {
			t.Errorf("%.20q...: %q", request, b)
		}
	}
	w.get(t, "/ping").want(t, 200, "pong")
}

func TestTLS(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	w := startWorld(t, func(o *Options) { o.TLS = &tls.Config{Certificates: cert.TLS.Certificates} })
	w.client = cert.Client()
	w.client.CheckRedirect = nil
	w.url = "https://" + w.Addr().String()
	defer w.client.CloseIdleConnections()
	w.get(t, "/ping").want(t, 200, "pong")
}

// Two servers can run in one process. Two servers on one registry are a mistake, which New reports.
func TestTwoServers(t *testing.T) {
	a := startWorld(t, func(o *Options) { o.Registerer, o.Token = prometheus.NewRegistry(), "one" })
	b := startWorld(t, func(o *Options) { o.Registerer, o.Token = prometheus.NewRegistry(), "two" })
	a.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: one").want(t, 200, "pong")
	b.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: two").want(t, 200, "pong")
	b.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: one").contains(t, 401, "")
	if n := value(t, a.metrics.requests.WithLabelValues("/ping", "GET", "200")); n != 1 {
		t.Errorf("%v requests counted on the first", n)
	}
	if n := value(t, b.metrics.requests.WithLabelValues("/ping", "GET", "401")); n != 1 {
		t.Errorf("%v refused requests counted on the second", n)
	}
}

// Values that a client chooses never create a new series of a metric.
func TestMetricsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := startWorld(t, func(o *Options) { o.Registerer = reg })
	for _, path := range []string{"/a", "/b", "/latest/x", "/latest/y", "/latest/a%2Fb"} {
		w.get(t, path)
	}
	for _, m := range []string{"FOO", "BAR"} {
		w.do(t, m, "/ping", "")
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, f := range families {
		if f.GetName() == "pulse_query_requests_total" {
			got = len(f.Metric)
		}
	}
	// The series are: other GET 404, latest GET 404, other other 405.
	if got != 3 {
		t.Errorf("%d series", got)
	}
	if n := value(t, w.metrics.requests.WithLabelValues("/latest/{stat}", "GET", "404")); n != 3 {
		t.Errorf("%v requests of /latest counted", n)
	}
}

func TestPathsAndMethods(t *testing.T) {
	w := startWorld(t, nil)
	w.latest.readings = map[string][]latest.Reading{}
	for _, name := range []string{"cpu", "a/b", "a b", "ä", "%", "a+b", "..", "a?b", "{stat}", ":x"} {
		w.latest.readings[name] = []latest.Reading{{Time: minutesAgo(0), Value: 7}}
	}
	seven := `{"time":1795429230,"value":7}` + "\n"
	for _, path := range []string{"cpu", "cpu/", "a%2Fb", "a%20b", "%C3%A4", "%25", "a+b", "a%2Bb", "..", "a%3Fb",
		"%7Bstat%7D", "%7bstat%7d", ":x", "%3Ax", "c%70u"} {
		w.get(t, "/latest/"+path).want(t, 200, seven)
	}
	for _, path := range []string{"", "/", "//ping", "/ping//", "/Ping", "/latest", "/latest/", "/latest/a/b", "/latest//"} {
		if a := w.get(t, path); a.status != 404 || !strings.Contains(a.body, `"error":"Not Found`) {
			t.Errorf("%q: %d %q", path, a.status, a.body)
		}
	}
	if a := w.do(t, "HEAD", "/keys", ""); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "3" {
		t.Errorf("HEAD: %+v", a)
	}
	a := w.do(t, "PUT", "/overrides", "")
	if a.status != 405 || a.header.Get("Allow") != "GET, HEAD, POST, OPTIONS" {
		t.Errorf("%d %q", a.status, a.header.Get("Allow"))
	}
	w.get(t, "/latest/"+strings.Repeat("x", 257)).contains(t, 400, "at most 256")
	w.get(t, "/latest/a%00b").contains(t, 400, "control characters")
	w.get(t, "/latest/a%0Ab").contains(t, 400, "control characters")
	w.get(t, "/latest/a%FFb").contains(t, 400, "not UTF-8")
	w.get(t, "/hourly/a%FFb").contains(t, 400, "not UTF-8")
	w.get(t, "/daily/a%07b").contains(t, 400, "control characters")
}

// A route does not exist if the part of Pulse that it needs is not configured.
func TestAbsentRoutes(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.Control, o.Metrics = nil, nil })
	for _, c := range [][2]string{{"GET", "/metrics"}, {"GET", "/overrides"}, {"POST", "/overrides"}, {"POST", "/flush"},
		{"DELETE", "/overrides/1"}} {
		w.do(t, c[0], c[1], "").contains(t, 404, "there is no such route")
	}
}

// Many clients send requests at once, for the race detector.
func TestConcurrentClients(t *testing.T) {
	w := goldenWorld(t, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, path := range []string{"/latest/cpu_used?host=web1", "/latest/cpu_used?verb=none", "/keys", "/tags",
				"/hourly/cpu_used", "/daily/cpu_used", "/readyz", "/overrides"} {
				if a := w.get(t, path); a.status != 200 {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
}
