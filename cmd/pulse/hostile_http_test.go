package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestHostileHTTP opens far more connections to the API of a real server than the server serves at
// once. They send nothing, or half a header, or nothing more after a first answer, or a body
// without end. Others guess tokens meanwhile. A client with the token still gets every answer at
// once. The memory stays bounded, and refusals are counted and logged.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	idle := min(fromEnvironment(t, hostileRelays, 1000), 4000) // of each kind; the server's limit is 2,048
	lasts := 6*time.Second + time.Duration(idle)*2*time.Millisecond
	log := &transcript{}
	s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Output: log, Args: []string{"--influx-address", "embedded", "-p", "60", "-l", "WARN"}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 5, Stats: 1, Reconnect: true})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "/latest", time.Minute, func() error { return s.Get("/latest/stat_0", &stat{}) })

	const half = "GET /latest/stat_0 HTTP/1.1\r\nHost: x\r\nX-Slow: "
	h := newHostiles(t, s.HTTPAddr, "")
	// Each connection is made again after this pause: 3,000 a second in all, and no more at the
	// beginning. A client that opens 2,048 connections before an honest request is read does block
	// that request.
	again := time.Duration(idle) * time.Millisecond
	const waves = 20
	for range waves {
		h.start(idle/waves, again, h.hear)
		h.start(idle/waves, again, func(c net.Conn) { h.drip(c, half) })
		h.start(idle/waves, again, func(c net.Conn) { h.say(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); h.hear(c) })
		time.Sleep(again / waves)
	}
	for _, head := range []string{
		"POST /alerts HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: secret\r\nContent-Length: 1099511627776\r\n\r\n",
		"POST /alerts HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: secret\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n",
		"POST /replay HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n", // no token
		"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: ",
		"GET /",
	} {
		h.start(3, 100*time.Millisecond, func(c net.Conn) { h.endless(c, head) })
	}
	h.start(5, 20*time.Millisecond, func(c net.Conn) {
		h.say(c, fmt.Sprintf("GET /keys HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: %x\r\n\r\n", rand.Uint64()))
		h.hear(c)
	})

	const atLeast = 10 // on a busy machine they take longer
	var took []time.Duration
	begin := time.Now()
	for asked := 0; time.Since(begin) < lasts || asked < atLeast; asked++ {
		began := time.Now()
		if err := s.Get("/latest/stat_0", &stat{}); err != nil {
			t.Errorf("asking for the %d. time: %v", asked+1, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	for metric, labels := range map[string][]string{
		"pulse_query_connections_closed_idle_total": nil,
		"pulse_query_unauthorized_total":            nil,
		"pulse_query_guesses_refused_total":         {`of="token"`},
		"pulse_query_requests_total":                {`code="413"`},
	} {
		if v, err := s.Metric(metric, labels...); err != nil || v == 0 {
			t.Errorf("%s: %v, %v; want it counted", metric, v, err)
		}
	}
	for _, line := range []string{"all connections to the API are taken", "gave too many wrong tokens"} {
		if n := strings.Count(log.String(), line); n < 1 || n > 2+int(time.Since(begin)/time.Minute) {
			t.Errorf("%d log lines like %q, want one a minute", n, line)
		}
	}
	h.stop()
	await(t, s, "the connections are closed", time.Minute, func() error {
		n, err := s.Metric("pulse_query_connections")
		if err == nil && n > 5 {
			err = fmt.Errorf("%v are open", n)
		}
		return err
	})
	_, peak, err := s.RSS()
	if err != nil {
		t.Fatal(err)
	}
	if peak > hostileMemory {
		t.Errorf("the server took %d MiB", peak>>20)
	}
	stopProjected(t, s)
	t.Logf("%d answers beside %d connections in %v, half of them within %v, the slowest after %v; the server took %d MiB at most",
		len(took), h.connections.Load(), lasts, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), peak>>20)
}

// drip sends text, and then a byte a second.
func (h *hostiles) drip(c net.Conn, text string) {
	go h.hear(c)
	for h.say(c, text) {
		text = "x"
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// TestHostileRequests sends a real server requests that no normal client would write. Each of them
// gets one answer, or as many answers as it contains requests. Without the token, access is always
// refused.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-l", "WARN")
	const host, token, post = "Host: x\r\n", "Host: x\r\nX-AUTH-TOKEN: secret\r\n", "POST /alerts HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: secret\r\n"
	for _, c := range []struct {
		request string
		want    []int // the status of each answer; 0: any refusal
	}{
		// Paths.
		{"GET //keys HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /keys// HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /%2Fkeys HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /keys%2F HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /./keys HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /latest/../keys HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /latest/..%2Fkeys HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /healthz/../keys HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET /healthz%2F..%2Fkeys HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET /healthz;x=/keys HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET /HEALTHZ HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET /%6beys HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /keys\x00 HTTP/1.1\r\n" + token + "\r\n", []int{0}},
		{"GET /keys%00 HTTP/1.1\r\n" + token + "\r\n", []int{404}},
		{"GET /keys%zz HTTP/1.1\r\n" + token + "\r\n", []int{0}},
		{"GET /keys#/healthz HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET \\keys HTTP/1.1\r\n" + token + "\r\n", []int{0}},
		{"GET keys HTTP/1.1\r\n" + token + "\r\n", []int{0}},
		{"GET * HTTP/1.1\r\n" + token + "\r\n", []int{405}},
		{"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", []int{200}},
		{"GET http://elsewhere.example/keys HTTP/1.1\r\n" + token + "\r\n", []int{200}},
		{"GET http://elsewhere.example/keys HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET http://secret:secret@x/keys HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"GET /latest/" + strings.Repeat("a", 60_000) + " HTTP/1.1\r\n" + token + "\r\n", []int{400}},
		// Methods and versions.
		{"get /keys HTTP/1.1\r\n" + token + "\r\n", []int{405}},
		{"TRACE /keys HTTP/1.1\r\n" + token + "\r\n", []int{405}},
		{"CONNECT x:80 HTTP/1.1\r\n" + host + "\r\n", []int{401}},
		{"G\x7fT /keys HTTP/1.1\r\n" + token + "\r\n", []int{0}},
		{"GET  /keys HTTP/1.1\r\n" + token + "\r\n", []int{0}},
		{"GET /keys\r\n\r\n", []int{0}},
		{"GET /keys HTTP/1.0\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{200}},
		{"GET /keys HTTP/1.0\r\nX-AUTH-TOKEN: secret\r\nConnection: keep-alive\r\n\r\n", []int{200}},
		{"GET /keys HTTP/1.2\r\n" + token + "\r\n", []int{200}},
		{"GET /keys HTTP/3.0\r\n" + token + "\r\n", []int{0}},
		{"GET /keys HTTP/x\r\n" + token + "\r\n", []int{0}},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{0}},
		// Headers.
		{"GET /keys HTTP/1.1\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{0}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\n" + token + "\r\n", []int{0}},
		{"GET /keys HTTP/1.1\r\nHost: a b\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{0}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN : secret\r\n\r\n", []int{0}},
		{"GET /keys HTTP/1.1\r\n Host: x\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{0}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\nX: \x00\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{0}},
		{"GET /keys HTTP/1.1\nHost: x\nX-AUTH-TOKEN: secret\n\n", []int{200}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: wrong\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{401}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\nX-AUTH-TOKEN: wrong\r\n secret\r\n\r\n", []int{401}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\nX_AUTH_TOKEN: secret\r\n\r\n", []int{401}},
		{"GET /keys HTTP/1.1\r\nHost: secret\r\nCookie: X-AUTH-TOKEN=secret\r\nReferer: http://x/?X-AUTH-TOKEN=secret\r\n\r\n", []int{401}},
		{"GET /keys HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\nX-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz\r\n\r\n", []int{401}},
		{"GET /keys HTTP/1.1\r\n" + token + "X-HTTP-Method-Override: DELETE\r\n\r\n", []int{200}},
		{"GET /keys HTTP/1.1\r\n" + token + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", []int{200}},
		{"GET /keys HTTP/1.1\r\n" + token + "Connection: X-AUTH-TOKEN\r\n\r\n", []int{200}},
		{"GET /keys HTTP/1.1\r\n" + token + strings.Repeat("a: b\r\n", 8_000) + "\r\n", []int{200}},
		{"GET /keys HTTP/1.1\r\n" + token + strings.Repeat("a: b\r\n", 20_000) + "\r\n", []int{0}},
		// The end of a request.
		{post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", []int{0}},
		{post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", []int{400}},
		{post + "Content-Length: 2, 2\r\n\r\n{}", []int{0}},
		{post + "Content-Length: -2\r\n\r\n{}", []int{0}},
		{post + "Content-Length: +2\r\n\r\n{}", []int{0}},
		{post + "Content-Length: 0x2\r\n\r\n{}", []int{0}},
		{post + "Content-Length: 99999999999999999999\r\n\r\n{}", []int{0}},
		{post + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", []int{0}},
		{post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []int{0}},
		{post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{0}},
		{post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{0}},
		{post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", []int{0}},
		{post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", []int{400}},
		{post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}", []int{400}},
		{post + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n", []int{400}},
		{post + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("x", 100_000) + "\r\n{}\r\n0\r\n\r\n", []int{400}},
		{"POST /alerts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-AUTH-TOKEN\r\n\r\n2\r\n{}\r\n0\r\nX-AUTH-TOKEN: secret\r\n\r\n", []int{401}},
		{"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", []int{401}},
		// If both headers are there, the body is the chunked one. The server does not read what
		// follows it, and closes the connection.
		{post + "Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /keys HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
		{post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /keys HTTP/1.1\r\n" + token + "\r\n", []int{400}},
		{post + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nGET /keys HTTP/1.1\r\n" + token + "\r\n", []int{400}},
		{"GET /keys HTTP/1.1\r\n" + token + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /keys HTTP/1.1\r\n" + token + "\r\n", []int{200}},
		{post + "Content-Length: 2\r\n\r\n{}GET /keys HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 401}},
		{"GET /keys HTTP/1.1\r\n" + host + "\r\nGET /keys HTTP/1.1\r\n" + token + "\r\n", []int{401}}, // it closes
		{strings.Repeat("GET /keys HTTP/1.1\r\n"+token+"\r\n", 100), slices.Repeat([]int{200}, 100)},
	} {
		name := c.request[:min(len(c.request), 150)]
		got, err := statuses(s.HTTPAddr, c.request)
		if err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
			continue
		}
		if len(got) == 0 { // the server hung up before it had read everything
			got = []int{http.StatusRequestHeaderFieldsTooLarge}
		}
		same := len(got) == len(c.want)
		for i := range got {
			if same {
				same = got[i] == c.want[i] || c.want[i] == 0 && got[i] >= 400
			}
		}
		if !same || slices.ContainsFunc(got, func(code int) bool { return code == 500 }) {
			t.Errorf("%q: answered with %v, want %v", name, got, c.want)
		}
	}
	if n, err := s.Metric("pulse_query_panics_total"); err != nil || n != 0 {
		t.Errorf("%v panics, %v", n, err)
	}
}

// statuses returns the status of each answer on a connection on which only text is sent.
func statuses(addr, text string) (list []int, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	var sent sync.WaitGroup
	defer sent.Wait()
	sent.Go(func() {
		_, _ = io.WriteString(c, text) // the server may hang up early
		_ = c.(*net.TCPConn).CloseWrite()
	})
	r := bufio.NewReader(c)
	for {
		response, err := http.ReadResponse(r, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		if response.StatusCode != http.StatusContinue {
			list = append(list, response.StatusCode)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil && !isReset(err) {
			return list, err
		}
	}
}

// isReset reports whether the server closed the connection with unread data.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
