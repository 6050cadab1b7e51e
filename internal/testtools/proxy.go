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

// A Fault is a way in which what stands between Pulse and an HTTP server, or
// the server itself, fails.
type Fault string

const (
	// Healthy passes every request on.
	Healthy Fault = "healthy"
	// Refuse listens no more and breaks off every connection.
	Refuse Fault = "refuse"
	// Hang takes requests and answers none of them while it lasts; then they
	// are passed on, late, as those of a server that was stopped.
	Hang Fault = "hang"
	// Status500 and Status503 answer as a proxy does before a server that is ill.
	Status500 Fault = "500"
	Status503 Fault = "503"
	// Garbage answers something that is not HTTP.
	Garbage Fault = "garbage"
	// Portal answers 200 and a page in HTML, whatever was asked.
	Portal Fault = "portal"
	// Cut passes requests on and breaks the connection off instead of answering:
	// what was written is written, and the writer does not know.
	Cut Fault = "cut"
	// Slow passes requests on after a second.
	Slow Fault = "slow"
)

// Faults are all but Healthy.
func Faults() []Fault {
	return []Fault{Refuse, Hang, Status500, Status503, Garbage, Portal, Cut, Slow}
}

// slowness is how long Slow holds a request.
const slowness = time.Second

// A Proxy passes HTTP requests on to a server, until it is told to fail. Its
// methods are for the test's own goroutine.
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

// StartProxy starts a healthy proxy before the server at target, a URL, and
// ends it with the test.
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
		p.Set(Healthy) // nobody hangs any more
		p.close()
		p.upstream.CloseIdleConnections()
		release()
	})
	return p
}

// Set ends the present fault and begins another. It returns when the change
// holds for every request that comes.
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

// close breaks off every connection.
func (p *Proxy) close() {
	_ = p.server.Close() // the listener was its own
	p.wg.Wait()
}

// ServeHTTP answers one request as the fault of the moment has it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Read first: only then does the server notice that the client has gone.
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

// pass passes a request on. With cut nobody gets the answer.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, body []byte, cut bool) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, p.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	request.Header = r.Header.Clone()
	response, err := p.upstream.Do(request)
	if err != nil { // the server is away: so is the proxy
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

// garble answers as a server of another protocol would.
func garble(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2p1\r\n\x00\x01\x02\r\n"))
	_ = conn.Close()
}

// listenShared listens on an address that reserve holds.
func listenShared(address string) (net.Listener, error) {
	return (&net.ListenConfig{Control: share}).Listen(context.Background(), "tcp", address)
}
