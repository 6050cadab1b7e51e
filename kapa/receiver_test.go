package kapa

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
)

// speak answers each connection with only what banner writes.
func speak(tb testing.TB, banner func(w io.Writer)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				request := make([]byte, 1024)
				if _, err := c.Read(request); err == nil {
					banner(c)
				}
				// Read until the client closes: closing with unread input would reset the
				// connection.
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	tb.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return l.Addr().String()
}

// Whatever a receiver answers, only a little of it is kept, logged and shown, and nothing that
// reveals which program listens there.
func TestReceiverIsBounded(t *testing.T) {
	const notHTTP = "what answers there does not speak HTTP, or its headers are over 64 KiB"
	says := func(text string) func(io.Writer) {
		return func(w io.Writer) { _, _ = io.WriteString(w, text); closeWrite(w) }
	}
	flood := func(before, piece string) func(io.Writer) {
		return func(w io.Writer) {
			_, err := io.WriteString(w, before)
			for n := 0; err == nil && n < 9<<20; n += len(piece) {
				_, err = io.WriteString(w, piece)
			}
			if err == nil {
				_, _ = io.WriteString(w, "\r\n\r\n")
			}
			closeWrite(w)
		}
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	piece := strings.Repeat("SECRET ", 1000)
	for _, tt := range []struct {
		name, scheme string
		banner       func(w io.Writer)
		address      string
		want         string
	}{
		{"a status line", "http", flood("HTTP/1.1 500 ", piece), "", notHTTP},
		{"a good status line", "http", flood("HTTP/1.1 200 ", piece), "", notHTTP},
		{"no HTTP", "http", flood("", piece), "", notHTTP},
		{"a header", "http", flood("HTTP/1.1 200 OK\r\nX: ", piece), "", notHTTP},
		{"many headers", "http", flood("HTTP/1.1 200 OK\r\n", "X: SECRET\r\n"), "", notHTTP},
		{"informational answers", "http", flood("", "HTTP/1.1 103 Early\r\nX: SECRET\r\n\r\n"), "", notHTTP},
		{"ssh", "http", says("SSH-2.0-SECRET_9.6p1 Debian\r\n"), "", notHTTP},
		{"nats", "http", says(`INFO {"server_id":"SECRET"}` + "\r\n"), "", notHTTP},
		{"a database", "http", says("J\x00\x00\x00\n8.0.SECRET\x00"), "", notHTTP},
		{"a wrong header", "http", says("HTTP/1.1 200 OK\r\nSECRET\r\n\r\n"), "", notHTTP},
		{"a wrong location", "http", says("HTTP/1.1 307 X\r\nLocation: http://%SECRET\r\nContent-Length: 0\r\n\r\n"), "", notHTTP},
		{"a location that is no HTTP", "http", says("HTTP/1.1 307 X\r\nLocation: secret:SECRET\r\nContent-Length: 0\r\n\r\n"), "", "redirected to what is no HTTP: set post to the final URL"},
		{"nothing", "http", closeWrite, "", "the connection was closed without an answer"},
		{"no TLS", "https", says("SSH-2.0-SECRET\r\n"), "", "what answers there does not speak TLS: is it http://?"},
		{"HTTP for TLS", "https", nil, plain.Listener.Addr().String(), "what answers there does not speak TLS: is it http://?"},
		{"an unknown certificate", "https", nil, secure.Listener.Addr().String(), "its certificate is signed by an authority that is not known here"},
		{"another status", "http", says("HTTP/1.1 599 SECRET\r\nContent-Length: 0\r\n\r\n"), "", "the receiver answered 599 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.banner != nil {
				tt.address = speak(t, tt.banner)
			}
			var log bytes.Buffer
			db := newDB(t)
			a, err := New(Options{DB: db, Instance: "TEST", Journal: emptyJournal{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			a.Start()
			id := alertTo(t, a, tt.scheme+"://"+tt.address+"/")
			queue(t, a, id, 1, 1)
			var v View
			eventually(t, "the attempt fails", func() bool {
				if v, err = a.Get(id); err != nil {
					t.Fatal(err)
				}
				return v.Status.DeliveryError != ""
			})
			stopAlerts(t, a)
			if v.Status.DeliveryError != tt.want {
				t.Errorf("shown: %.300q", v.Status.DeliveryError)
			}
			if log.Len() > 2000 {
				t.Errorf("the log has %d bytes", log.Len())
			}
			if err := db.View(func(tx *bbolt.Tx) error {
				if kept := bucket(tx, outcomeBucket).Get([]byte(id)); len(kept) > 300 || bytes.Contains(kept, []byte("SECRET")) {
					return fmt.Errorf("kept: %.300q", kept)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func closeWrite(w io.Writer) { _ = w.(*net.TCPConn).CloseWrite() }

// Text about a receiver that an earlier release kept is also cut before it is shown.
func TestReceiverOfBefore(t *testing.T) {
	db := newDB(t)
	a := startAlerts(t, Options{DB: db, Journal: emptyJournal{}})
	id := alertTo(t, a, "http://127.0.0.1:1/")
	if err := db.Update(func(tx *bbolt.Tx) error {
		return putJSON(bucket(tx, outcomeBucket), []byte(id), outcome{Error: strings.Repeat("x", 1<<20)})
	}); err != nil {
		t.Fatal(err)
	}
	if v, err := a.Get(id); err != nil || len(v.Status.DeliveryError) > maxSaid {
		t.Errorf("%d bytes, %v", len(v.Status.DeliveryError), err)
	}
}

// A link-local address is refused when an alert gives it, and when a name or a redirect leads to
// it.
func TestLinkLocal(t *testing.T) {
	for _, post := range []string{"http://0xa9fea9fe/", "http://2852039166/", "http://169.254.43518/", "http://0251.254.169.254/", "http://0xA9.0xFE.0xa9.0xfe./", "http://a.0x/"} {
		if err := checkURL(post); err == nil || !strings.Contains(err.Error(), "number") {
			t.Errorf("%s: %v", post, err)
		}
	}
	for _, post := range []string{"http://a1/", "http://127.0.0.1/", "http://10.example.org/", "http://[::1]/", "http://0xg/", "http://x0/"} {
		if err := checkURL(post); err != nil {
			t.Errorf("%s: %v", post, err)
		}
	}
	for _, post := range []string{"http://169.254.169.254/latest", "https://169.254.0.1:8443/", "http://[fe80::1]/", "http://[fe80::1%25eth0]:80/",
		"http://[::ffff:169.254.169.254]/", "http://[febf::1]/"} {
		a := sampleAlert()
		a.Post = post
		a = a.withDefaults()
		var field *FieldError
		if err := a.validate(); !errors.As(err, &field) || field.Field != "post" || !errors.Is(err, errLinkLocal) {
			t.Errorf("%s: %v", post, err)
		}
	}
	for address, want := range map[string]bool{"169.254.169.254:80": true, "[fe80::1%lo]:80": true, "[::ffff:169.254.1.1]:1": true,
		"127.0.0.1:80": false, "10.0.0.1:80": false, "169.253.255.255:1": false, "[::1]:80": false, "[fd00::1]:80": false} {
		if err := refuseLinkLocal("tcp", address, nil); errors.Is(err, errLinkLocal) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	// The address behind a name, or behind an unusual spelling, is known only when the connection
	// is made.
	tr := newTransport()
	defer tr.CloseIdleConnections()
	if _, err := tr.DialContext(t.Context(), "tcp", "169.254.169.254:80"); !errors.Is(err, errLinkLocal) {
		t.Error(err)
	}
	if isLinkLocal(netip.MustParseAddr("192.168.1.1")) {
		t.Error("192.168.1.1 is refused")
	}
}

// The transport for receivers speaks HTTP/2, as that of net/http does.
func TestReceiverHTTP2(t *testing.T) {
	var proto string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto = r.Proto }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	tr := newTransport()
	defer tr.CloseIdleConnections()
	tr.TLSClientConfig = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	resp, err := (&http.Client{Transport: tr}).Post(srv.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if proto != "HTTP/2.0" {
		t.Error(proto)
	}
}
