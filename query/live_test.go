package query

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// waitingStream sends the texts of said until its context ends.
type waitingStream struct {
	said   chan string
	closed chan struct{}
}

func (s *waitingStream) Next(ctx context.Context, dst []byte) ([]byte, error) {
	select {
	case text := <-s.said:
		return append(dst, text...), nil
	case <-ctx.Done():
		return dst, ctx.Err()
	}
}

func (s *waitingStream) Close() { close(s.closed) }

// listen opens a stream. The caller reads the rest of its body.
func listen(t *testing.T, w *world, path string, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := w.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// Texts arrive at once. A client that disconnects ends the stream, and so does a server that stops.
// The stream is closed after that.
func TestLiveStream(t *testing.T) {
	var got LiveRequest
	stream := &waitingStream{said: make(chan string), closed: make(chan struct{})}
	w := startWorld(t, func(o *Options) {
		o.Live = &fakeLive{subscribe: func(q LiveRequest) (LiveStream, error) { got = q; return stream, nil }}
	})
	auth := "X-AUTH-TOKEN: " + testToken
	response := listen(t, w, "/live/cpu%2Fused?host=web1&host=web2&last-event-id=3", auth, "Last-Event-ID: 41")
	want := LiveRequest{Stat: "cpu/used", Filters: map[string][]string{"host": {"web1", "web2"}}, Resume: true, After: 41}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	for _, text := range []string{"retry: 1000\n\n", "id: 42\nevent: readings\ndata: {}\n\n"} {
		stream.said <- text
		b := make([]byte, len(text))
		if _, err := io.ReadFull(response.Body, b); err != nil || string(b) != text {
			t.Fatalf("heard %q, %v", b, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx) }()
	rest, err := io.ReadAll(response.Body)
	if err != nil || string(rest) != "event: stopping\ndata: {}\n\n" {
		t.Errorf("at the stop: %q, %v", rest, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("a stream held the stop up: %v", err)
	}
	<-stream.closed

	stream = &waitingStream{said: make(chan string), closed: make(chan struct{})}
	w = startWorld(t, func(o *Options) {
		o.Live = &fakeLive{subscribe: func(LiveRequest) (LiveStream, error) { return stream, nil }}
	})
	_ = listen(t, w, "/live", auth).Body.Close()
	<-stream.closed

	eventually(t, "no stream is counted", func() bool { return value(t, w.metrics.streams) == 0 })

	full := startWorld(t, func(o *Options) {
		o.Live = &fakeLive{subscribe: func(LiveRequest) (LiveStream, error) { return nil, errors.New("too many listen already") }}
	})
	if a := full.get(t, "/live"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "too many listen already") ||
		a.header.Get("Retry-After") == "" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("too many: %+v", a)
	}
	head := full.do(t, "HEAD", "/live/cpu", "")
	if head.status != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %+v", head)
	}
	for name, want := range map[string]string{"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store",
		"X-Accel-Buffering": "no", "Access-Control-Allow-Origin": "*"} {
		if got := head.header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
		if got := response.Header.Get(name); got != want {
			t.Errorf("of a stream %s is %q", name, got)
		}
	}
}

func TestLiveParameters(t *testing.T) {
	var got LiveRequest
	w := startWorld(t, func(o *Options) {
		o.Live = &fakeLive{subscribe: func(q LiveRequest) (LiveStream, error) { got = q; return &fakeStream{"x"}, nil }}
	})
	for path, want := range map[string]LiveRequest{
		"/live":                 {},
		"/live?last-event-id=0": {Resume: true},
		"/live?last-event-id=":  {},
		"/live?last-event-id=18446744073709551615":     {Resume: true, After: 1<<64 - 1},
		"/live/cpu?a=1&b=&a=2&X-AUTH-TOKEN=x&ticket=y": {Stat: "cpu", Filters: map[string][]string{"a": {"1", "2"}, "b": {""}}},
		"/live/%C3%A4?a=%22%27%5C%3B%20--&backfill=1":  {Stat: "ä", Filters: map[string][]string{"a": {`"'\; --`}, "backfill": {"1"}}},
		"/live/ticket": {Stat: "ticket"},
	} {
		got = LiveRequest{}
		w.get(t, path).want(t, 200, "x")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s asked for %+v, want %+v", path, got, want)
		}
	}
	for path, text := range map[string]string{
		"/live?last-event-id=x":                    `Last-Event-ID is \"x\"`,
		"/live?last-event-id=-1":                   "a whole number",
		"/live?last-event-id=1.5":                  "a whole number",
		"/live?last-event-id=18446744073709551616": "a whole number",
		"/live?last-event-id=1&last-event-id=2":    "given 2 times",
		"/live?ticket=1&ticket=2":                  "given 2 times",
		"/live?verb=mean":                          "verb",
		"/live?time=1":                             "time cannot be a filter",
		"/live?=1":                                 "has no name",
		"/live/%00":                                "control characters",
		"/live?%zz":                                "malformed",
		"/live?a=" + strings.Repeat("x", 2000):     "2000 bytes",
	} {
		w.get(t, path).contains(t, 400, text)
	}
	w.do(t, "GET", "/live?X-AUTH-TOKEN="+testToken, "", "Last-Event-ID: nine").contains(t, 400, "nine")
}

// A stream lasts longer than the time limits of other answers, and does not count as a slow answer.
func TestLiveOutlastsTheLimits(t *testing.T) {
	stream := &waitingStream{said: make(chan string), closed: make(chan struct{})}
	w := newWorld(t, func(o *Options) {
		o.Now = time.Now
		o.Live = &fakeLive{subscribe: func(LiveRequest) (LiveStream, error) { return stream, nil }}
	})
	const limit = 50 * time.Millisecond
	w.http.ReadTimeout, w.http.WriteTimeout = limit, limit
	w.Start()
	response := listen(t, w, "/live", "X-AUTH-TOKEN: "+testToken)
	for i := range 4 {
		time.Sleep(limit) // the test needs real time to pass
		stream.said <- "x"
		if _, err := io.ReadFull(response.Body, make([]byte, 1)); err != nil {
			t.Fatalf("after %d limits: %v", i+1, err)
		}
	}
	_ = response.Body.Close()
	<-stream.closed
	eventually(t, "the request is counted", func() bool { return value(t, w.metrics.requests.WithLabelValues("/live", "GET", "200")) == 1 })
	var d dto.Metric
	if err := w.metrics.seconds.WithLabelValues("/live").(prometheus.Metric).Write(&d); err != nil {
		t.Fatal(err)
	}
	if sum := d.GetHistogram().GetSampleSum(); sum > limit.Seconds() {
		t.Errorf("the stream counts as a request of %v s", sum)
	}
}

// endless is a stream that always has more data than the client reads.
type endless struct{ closed chan struct{} }

func (e *endless) Next(_ context.Context, dst []byte) ([]byte, error) {
	return append(dst, make([]byte, 256<<10)...), nil
}

func (e *endless) Close() { close(e.closed) }

// A client that does not read is disconnected, over HTTP/1 and HTTP/2.
func TestLiveClientThatDoesNotRead(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	for _, https := range []bool{false, true} {
		stream := &endless{closed: make(chan struct{})}
		w := newWorld(t, func(o *Options) {
			o.Live = &fakeLive{subscribe: func(LiveRequest) (LiveStream, error) { return stream, nil }}
			if https {
				o.TLS = &tls.Config{Certificates: cert.TLS.Certificates}
			}
		})
		w.patience = 300 * time.Millisecond
		if https {
			w.http2(t, cert)
		}
		w.Start()
		response := listen(t, w, "/live", "X-AUTH-TOKEN: "+testToken)
		if https != (response.ProtoMajor == 2) {
			t.Fatalf("it is %s", response.Proto)
		}
		select {
		case <-stream.closed:
		case <-time.After(20 * time.Second):
			t.Fatalf("https %v: it is not dropped", https)
		}
		if n := value(t, w.metrics.stuck); n != 1 {
			t.Errorf("https %v: %v are counted", https, n)
		}
	}
}

// http2 makes the client use HTTP/2, over TLS.
func (w *world) http2(t *testing.T, cert *httptest.Server) {
	pool := x509.NewCertPool()
	pool.AddCert(cert.Certificate())
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}
	t.Cleanup(transport.CloseIdleConnections)
	w.client, w.url = &http.Client{Transport: transport}, "https://"+w.Addr().String()
}

// A ticket opens streams and nothing else. It works within a minute of being issued, while one of
// its streams is open, and for a minute after that.
func TestTickets(t *testing.T) {
	var passed atomic.Int64 // since testNow
	now := func() time.Time { return testNow.Add(time.Duration(passed.Load())) }
	later := func(d time.Duration) { passed.Add(int64(d)) }
	stream := &waitingStream{said: make(chan string), closed: make(chan struct{})}
	w := startWorld(t, func(o *Options) {
		o.Now = now
		o.Live = &fakeLive{subscribe: func(q LiveRequest) (LiveStream, error) {
			if q.Stat == "long" {
				return stream, nil
			}
			return &fakeStream{"x"}, nil
		}}
	})
	w.do(t, "POST", "/live/ticket", "", "-").contains(t, http.StatusUnauthorized, "token")
	issue := func() string {
		var made struct {
			Ticket  string
			Expires time.Time
		}
		a := w.do(t, "POST", "/live/ticket", "")
		if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusOK || len(made.Ticket) < 52 ||
			!made.Expires.Equal(now().Add(ticketLife).Truncate(time.Second)) {
			t.Fatalf("%+v, %v", a, err)
		}
		return made.Ticket
	}
	openStreams := func() (n int) {
		w.tickets.mu.Lock()
		defer w.tickets.mu.Unlock()
		for _, one := range w.tickets.valid {
			n += one.open
		}
		return n
	}
	try := func(path, ticket string) int {
		before := openStreams()
		status := w.do(t, "GET", path+"?ticket="+ticket, "", "-").status
		eventually(t, "the stream is counted out", func() bool { return openStreams() == before })
		return status
	}
	first := issue()
	if second := issue(); second == first {
		t.Fatal("the same ticket twice")
	}
	for path, want := range map[string]int{"/live": 200, "/live/cpu": 200, "/keys": 401, "/status": 401, "/latest/cpu": 401, "/nosuch": 401} {
		if got := try(path, first); got != want {
			t.Errorf("%s with a ticket: %d", path, got)
		}
	}
	if a := w.do(t, "POST", "/live/ticket?ticket="+first, "", "-"); a.status != http.StatusUnauthorized {
		t.Errorf("a ticket for a ticket: %d", a.status)
	}
	for _, wrong := range []string{"", "x", first + "x", first[1:]} {
		if got := try("/live", wrong); got != http.StatusUnauthorized {
			t.Errorf("ticket %q: %d", wrong, got)
		}
	}
	later(59 * time.Second)
	if got := try("/live", first); got != http.StatusOK { // used again: valid for one more minute
		t.Errorf("within the minute: %d", got)
	}
	later(59 * time.Second)
	response := listen(t, w, "/live/long?ticket="+first)
	later(24 * time.Hour)
	if got := try("/live", first); got != http.StatusOK {
		t.Errorf("beside an open stream: %d", got)
	}
	_ = response.Body.Close()
	<-stream.closed
	eventually(t, "the ticket's stream ended", func() bool { return openStreams() == 0 })
	later(59 * time.Second)
	if got := try("/live", first); got != http.StatusOK {
		t.Errorf("within a minute of the last stream: %d", got)
	}
	later(61 * time.Second)
	if got := try("/live", first); got != http.StatusUnauthorized {
		t.Errorf("a minute after the last stream: %d", got)
	}
	for range maxTickets {
		issue()
	}
	later(59 * time.Second)
	w.do(t, "POST", "/live/ticket", "").contains(t, http.StatusServiceUnavailable, "too many tickets")
	later(2 * time.Second)
	issue()
}
