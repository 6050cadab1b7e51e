package testtools

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A Fault is a way in which an HTTP server, or a proxy between it and Pulse, can fail.
type Fault string

const (
	// Healthy passes every request on.
	Healthy Fault = "healthy"
	// Refuse does not listen any more and closes every connection.
	Refuse Fault = "refuse"
	// Hang takes requests and answers none of them while the fault lasts. After that the requests
	// are passed on late, as by a server process that was stopped and continued.
	Hang Fault = "hang"
	// Status500 and Status503 answer as a proxy does when the server after it fails.
	Status500 Fault = "500"
	Status503 Fault = "503"
	// Garbage answers with bytes that are not HTTP.
	Garbage Fault = "garbage"
	// Portal answers every request with 200 and an HTML page.
	Portal Fault = "portal"
	// Cut passes requests on and closes the connection instead of answering: the server wrote the
	// data, but the writer does not know that.
	Cut Fault = "cut"
	// Slow passes requests on after a second.
	Slow Fault = "slow"
)

// Faults returns all faults except Healthy.
func Faults() []Fault {
	return []Fault{Refuse, Hang, Status500, Status503, Garbage, Portal, Cut, Slow}
}

// slowness is how long Slow holds a request.
const slowness = time.Second

// A Proxy passes HTTP requests on to a server until Set makes it fail. Only the test's own
// goroutine may call its methods.
type Proxy struct {
	// Addr is the proxy's URL, http://127.0.0.1:port, always the same.
	Addr string

	tb       testing.TB
	target   string
	upstream *http.Client
	server   *http.Server
	wg       sync.WaitGroup // of server.Serve

	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed when fault changes
}

// StartProxy starts a healthy proxy for the server at target, a URL. The proxy ends with the test.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p := &Proxy{tb: tb, target: target, upstream: &http.Client{Transport: &http.Transport{}}, fault: Healthy, changed: make(chan struct{})}
	release, address, err := reserve()
	if err != nil {
		tb.Fatalf("testtools: %v", err)
	}
	p.Addr = "http://" + address
	p.listen()
	tb.Cleanup(func() {
		p.Set(Healthy) // ends the requests of Hang
		p.close()
		p.upstream.CloseIdleConnections()
		release()
	})
	return p
}

// Set ends the present fault and begins another. When Set returns, every new request gets the new
// fault.
func (p *Proxy) Set(f Fault) {
	p.tb.Helper()
	p.mu.Lock()
	before := p.fault
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	switch {
	case f == Refuse && before != Refuse:
		p.close()
	case f != Refuse && before == Refuse:
		p.listen()
	}
}

func (p *Proxy) listen() {
	p.tb.Helper()
	l, err := listenShared(p.Addr[len("http://"):])
	if err != nil {
		p.tb.Fatalf("testtools: %v", err)
	}
	server := &http.Server{Handler: p}
	p.server = server
	p.wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.tb.Errorf("testtools: the proxy ended: %v", err)
		}
	})
}

// close closes every connection.
func (p *Proxy) close() {
	_ = p.server.Close() // nothing else uses its listener
	p.wg.Wait()
}

// ServeHTTP answers one request as the present fault demands.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The body is read first: only after that does the server notice that the client has gone.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for {
		p.mu.Lock()
		fault, changed := p.fault, p.changed
		p.mu.Unlock()
		switch fault {
		case Hang:
			select {
			case <-changed:
				continue
			case <-r.Context().Done():
				return
			}
		case Slow:
			select {
			case <-time.After(slowness):
			case <-r.Context().Done():
				return
			}
			p.pass(w, r, body, false)
		case Status500:
			http.Error(w, "internal error", http.StatusInternalServerError)
		case Status503:
			http.Error(w, "no server is available", http.StatusServiceUnavailable)
		case Portal:
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html><body>It works!</body></html>")
		case Garbage:
			garble(w)
		case Refuse:
			panic(http.ErrAbortHandler)
		default:
			p.pass(w, r, body, fault == Cut)
		}
		return
	}
}

// pass passes a request on. If cut is true, the client does not get the answer.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, body []byte, cut bool) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, p.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	request.Header = r.Header.Clone()
	response, err := p.upstream.Do(request)
	if err != nil { // the server is away, so the proxy is away too
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || cut {
		panic(http.ErrAbortHandler)
	}
	for key, values := range response.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(answer) // the client may have gone
}

// garble answers in another protocol than HTTP.
func garble(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2p1\r\n\x00\x01\x02\r\n"))
	_ = conn.Close()
}

// listenShared listens on an address that reserve has bound.
func listenShared(address string) (net.Listener, error) {
	return (&net.ListenConfig{Control: share}).Listen(context.Background(), "tcp", address)
}
