package query

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// dial opens a connection and sends text.
func dial(t testing.TB, w *world, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// A new connection replaces one that has no request running: the one that has been idle longest.
func TestIdleConnectionsMakeWay(t *testing.T) {
	for name, said := range map[string]string{
		"nothing":               "",
		"half a header":         "GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"a request, and stayed": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
		"no token and no body":  "POST /flush HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{",
		"many of its requests":  string(bytes.Repeat([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), 3)),
	} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t, func(o *Options) { o.MaxConnections = 3 })
			var idle []net.Conn
			for range 3 {
				idle = append(idle, dial(t, w, said))
				eventually(t, "it is served", func() bool { return value(t, w.metrics.connections) == float64(len(idle)) })
			}
			began := time.Now()
			for range 3 {
				raw(t, w, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").contains(t, 200, "ok")
			}
			if took := time.Since(began); took > headerTimeout/2 {
				t.Errorf("three requests took %v", took)
			}
			_ = idle[0].SetReadDeadline(time.Now().Add(10 * time.Second))
			if said == "" { // otherwise the order of the last answers is random
				if _, err := io.Copy(io.Discard, idle[0]); err != nil && isTimeout(err) {
					t.Error("the longest idle connection is still open")
				}
			}
			if n := value(t, w.metrics.connections); n > 3 {
				t.Errorf("%v connections", n)
			}
			if n := value(t, w.metrics.madeWay); n < 1 {
				t.Errorf("%v are counted that made way", n)
			}
		})
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// While all connections have a request running, the next connection waits. It is served when a
// request ends.
func TestConnectionLimit(t *testing.T) {
	entered, release := make(chan struct{}, 3), make(chan struct{})
	w := withRoute(t, func(o *Options) { o.MaxConnections = 2 }, "/slow", func(rw http.ResponseWriter, _ *http.Request, _ params) error {
		entered <- struct{}{}
		<-release
		return nil
	})
	const request = "GET /slow HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: " + testToken + "\r\n\r\n"
	for range 2 {
		dial(t, w, request)
		<-entered
	}
	third := make(chan answer, 1)
	go func() {
		third <- raw(t, w, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	}()
	// The third connection is not served. The only sign of that is that the number stays the same.
	for range 20 {
		time.Sleep(time.Millisecond)
		if n := value(t, w.metrics.connections); n != 2 {
			t.Fatalf("%v connections", n)
		}
	}
	release <- struct{}{}
	(<-third).contains(t, 200, "ok")
	close(release)
}

// A listener that waits for a free connection ends when it is closed.
func TestConnectionLimitAtTheStop(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := withRoute(t, func(o *Options) { o.MaxConnections = 1 }, "/slow", func(http.ResponseWriter, *http.Request, params) error {
		close(entered)
		<-release
		return nil
	})
	dial(t, w, "GET /slow HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: "+testToken+"\r\n\r\n")
	<-entered
	waiting := dial(t, w, "")
	done := make(chan error, 1)
	go func() { done <- w.Stop(t.Context()) }()
	_ = waiting.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := waiting.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("who waits hears %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
