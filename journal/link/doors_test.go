package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Two Pulses of one name: the second is refused, and both and the hub say so. When the first has
// gone, the second is let in.
func TestTwoOfOneName(t *testing.T) {
	hub, first, second := newNode(t, "hub"), newNode(t, "ams1"), newNode(t, "ams1")
	hub.listen()
	first.connect(hub.addr)
	first.make(5)
	first.level()
	second.connect(hub.addr)
	second.make(3)
	eventually(t, "both are told", func() bool {
		return second.uplink.Status().State == StateRefused && first.uplink.Status().Notice != ""
	})
	if s := second.uplink.Status(); !strings.Contains(s.Error, "two must not use one name") {
		t.Errorf("the second says %+v", s)
	}
	if s := first.uplink.Status(); s.State != StateConnected || !strings.Contains(s.Notice, "tried to connect as edge ams1") {
		t.Errorf("the first says %+v", s)
	}
	if e := hub.edge("ams1"); e.Refused == nil || !strings.Contains(e.Notice, "two must not use one name") || e.Has != 5 {
		t.Errorf("the hub says %+v", e)
	}
	want := append(texts(t, first.content("")), texts(t, second.content(""))...)
	first.stopLink(t.Context())
	second.uplink.hurry()
	second.level()
	hub.same("ams1", want)
}

// An edge without the token, of a name that is not known, whose token was changed or removed.
func TestTokens(t *testing.T) {
	hub, edge, stranger := newNode(t, "hub"), newNode(t, "ams1"), newNode(t, "lhr1")
	hub.listen()
	hub.hub.SetTokens(map[string]string{"ams1": "another", "fra1": "x"})
	edge.connect(hub.addr)
	stranger.connect(hub.addr)
	eventually(t, "both are refused", func() bool {
		return edge.uplink.Status().State == StateRefused && stranger.uplink.Status().State == StateRefused
	})
	if s := edge.uplink.Status(); !strings.Contains(s.Error, "no edge ams1 with this token") {
		t.Errorf("%+v", s)
	}
	if e := hub.edge("ams1"); e.State != StateNever || e.Refused == nil || !e.Heard.IsZero() {
		t.Errorf("%+v", e)
	}
	if list := hub.hub.RefusedNames(); len(list) != 1 || list[0].Name != "lhr1" || list[0].Reason == "" {
		t.Errorf("%+v", list)
	}
	edge.uplink.SetToken("another")
	edge.make(3)
	edge.level()
	hub.hub.SetTokens(map[string]string{"fra1": "x"})
	eventually(t, "the edge is off", func() bool { return hub.edge("ams1").State == StateOff })
	if e := hub.edge("ams1"); e.Has != 3 {
		t.Errorf("%+v", e)
	}
	eventually(t, "the edge is refused", func() bool { return edge.uplink.Status().State == StateRefused })
	hub.hub.SetTokens(map[string]string{"ams1": "a third"})
	if e := hub.edge("fra1"); e.Name != "" {
		t.Errorf("an edge that was never here is still listed: %+v", e)
	}
	edge.uplink.SetToken("a third")
	edge.level()
}

// What the hub passes on is answered, or refused while there is no link.
func TestAsk(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	hub.listen()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := hub.hub.Ask(ctx, "ams1", "echo", nil); !errors.Is(err, ErrDown) {
		t.Errorf("without a link: %v", err)
	}
	if _, err := hub.hub.Ask(ctx, "nobody", "echo", nil); !errors.Is(err, ErrNoEdge) {
		t.Errorf("an unknown edge: %v", err)
	}
	edge.connect(hub.addr)
	edge.level()
	if body, err := hub.hub.Ask(ctx, "ams1", "echo", []byte(`{"a":1}`)); string(body) != `{"a":1}` || err != nil {
		t.Errorf("%s, %v", body, err)
	}
	refused, ok := errors.AsType[*Refused](func() error { _, err := hub.hub.Ask(ctx, "ams1", "fail", nil); return err }())
	if !ok || refused.Kind != KindInvalid || refused.Text != "no such collector" {
		t.Errorf("%v", refused)
	}
	if _, err := hub.hub.Ask(ctx, "ams1", "sing", nil); err == nil || err.Error() != "sing is not known" {
		t.Error(err)
	}
}

// Late events are from the past, by the edge's own clock; what cannot be stored is a gap; an event of
// the largest size passes.
func TestEventsAtTheHub(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	hub.listen()
	now := time.Now()
	largest := &codec.Event{Relay: "big", Time: now.UnixNano(), Collectors: []codec.Collector{{Name: strings.Repeat("c", journal.MaxEventBytes-200), Stats: []codec.Stat{{ID: "s", Value: 1}}}}}
	events := []*codec.Event{
		{Relay: "a", Time: now.UnixNano()},
		{Relay: "a", Time: now.Add(-11 * time.Second).UnixNano()},
		{Relay: "a", Time: now.UnixNano(), Edge: "deep", Origin: 7}, // of the time when this edge was a hub
		largest,
		{Relay: "a", Time: now.Add(-time.Hour).UnixNano(), Past: true},
	}
	for _, e := range events {
		if _, err := edge.j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	edge.connect(hub.addr)
	edge.level()
	got := hub.content("ams1")
	if len(got) != 4 || got[0].Event.Past || !got[1].Event.Past || len(got[2].Event.Collectors) != 1 || got[2].Event.Origin != 4 || !got[3].Event.Past {
		t.Fatalf("%d events", len(got))
	}
	if e := hub.edge("ams1"); len(e.Gaps) > 0 || e.Has != 5 {
		t.Errorf("%+v", e)
	}
}

// Whatever connects and is no edge is turned away, and the hub goes on.
func TestStrangersAtTheHub(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	hub.listen()
	hi := func(h hello) []byte {
		payload, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.BigEndian.AppendUint32([]byte{frameHello}, uint32(len(payload))), payload...)
	}
	for name, c := range map[string]struct {
		send []byte
		want string // in the refusal; "": closed without one
	}{
		"http":          {[]byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"), ""},
		"a large frame": {append(binary.BigEndian.AppendUint32([]byte{frameHello}, maxHello+1), make([]byte, maxHello+1)...), ""},
		"not JSON":      {[]byte{frameHello, 0, 0, 0, 1, '{'}, ""},
		"events first":  {[]byte{frameEvents, 0, 0, 0, 2, '{', '}'}, ""},
		"an older link": {hi(hello{Protocol: 0, Release: "0.1", Edge: "ams1", Token: tokens["ams1"]}), "upgrade the edge"},
		"a newer link":  {hi(hello{Protocol: 9, Oldest: 8, Release: "9", Edge: "ams1", Token: tokens["ams1"]}), "upgrade the hub"},
		"a bad name":    {hi(hello{Protocol: 1, Oldest: 1, Edge: "readings", Token: "x"}), "cannot be the name"},
		"a wrong token": {hi(hello{Protocol: 1, Oldest: 1, Edge: "fra1", Token: "x"}), "no edge fra1 with this token"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", hub.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			conn := newConn(raw, 30*time.Second)
			var g greeting
			if err := conn.expect(frameGreeting, &g); err != nil || g.Protocol != protocol || g.Release != "1.0" {
				t.Fatalf("%+v, %v", g, err)
			}
			if _, err := raw.Write(c.send); err != nil {
				t.Fatal(err)
			}
			var w welcome
			err = conn.expect(frameWelcome, &w)
			refused, is := errors.AsType[*refusedError](err)
			switch {
			case c.want == "" && (err == nil || is):
				t.Errorf("%+v, %v", w, err)
			case c.want != "" && (!is || !strings.Contains(refused.Reason, c.want)):
				t.Errorf("%+v, %v", w, err)
			}
		})
	}
	edge.connect(hub.addr)
	edge.make(5)
	edge.level()
}

// With a token, an edge that breaks the protocol loses its connection, and what was stored stays.
func TestEdgeThatBreaksTheProtocol(t *testing.T) {
	hub := newNode(t, "hub")
	hub.listen()
	batchOf := func(first uint64, n int) []byte {
		var b batch
		for i := range n {
			if err := b.add(&journal.Record{Seq: first + uint64(i), Event: &codec.Event{Relay: "r", Time: int64(first) + int64(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		return b.take(1)
	}
	send := func(want uint64, frames ...func(c *conn) error) {
		t.Helper()
		raw, err := net.Dial("tcp", hub.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		c := newConn(raw, 30*time.Second)
		var g greeting
		var w welcome
		if err := errors.Join(c.expect(frameGreeting, &g), c.sendJSON(frameHello, hello{Protocol: 1, Oldest: 1, Edge: "ams1", Token: tokens["ams1"], Instance: "i", Journal: "j"}), c.expect(frameWelcome, &w)); err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if err := f(c); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if _, _, err := c.receive(); err != nil {
				if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
					t.Errorf("the hub does not end it: %v", err)
				}
				break
			}
		}
		eventually(t, "the link is over", func() bool { return hub.edge("ams1").State == StateSilent })
		if e := hub.edge("ams1"); e.Has != want {
			t.Errorf("%+v", e)
		}
	}
	beginAt := func(n uint64) func(*conn) error {
		return func(c *conn) error { return c.sendJSON(frameBegin, begin{From: n}) }
	}
	events := func(payload []byte) func(*conn) error {
		return func(c *conn) error { return c.send(frameEvents, payload) }
	}
	send(0, events(batchOf(1, 5)))                                    // before it said where it begins
	send(0, beginAt(0))                                               // nowhere
	send(5, beginAt(1), events(batchOf(1, 5)), events(batchOf(1, 5))) // twice
	send(8, beginAt(6), events(batchOf(6, 3)), events(batchOf(10, 3)))
	send(8, beginAt(9), events([]byte("nonsense")))
	send(8, beginAt(9), func(c *conn) error { return c.sendJSON(frameGap, gap{From: 12, To: 13}) })
	send(8, beginAt(9), beginAt(9))
	got := hub.content("ams1")
	if len(got) != 8 {
		t.Errorf("%d events", len(got))
	}
}

// The hub is verified by its certificate; what to do otherwise is said.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := selfsigned.Make(cert, key, "pulse", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(&pair)
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hub.hub, err = NewHub(HubOptions{Listener: l, TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }}, Journal: hub.j, DB: hub.db, Tokens: tokens, Logger: testLog(t, "hub")})
	if err != nil {
		t.Fatal(err)
	}
	hub.hub.Start()
	connect := func(c *tls.Config) {
		edge.uplink, err = NewUplink(UplinkOptions{Address: l.Addr().String(), Edge: "ams1", Token: tokens["ams1"], TLS: c, Journal: edge.j, Logger: testLog(t, "edge")})
		if err != nil {
			t.Fatal(err)
		}
		edge.uplink.Start()
	}
	connect(&tls.Config{})
	eventually(t, "the certificate is not trusted", func() bool { return strings.Contains(edge.uplink.Status().Error, "--hub-ca") })
	edge.stopLink(t.Context())
	// The very certificate is trusted under any name.
	for i, name := range []string{"", "hub.example.org"} {
		connect(&tls.Config{RootCAs: trusted, ServerName: name})
		edge.make(100)
		edge.level()
		if hub.same("ams1", texts(t, edge.content(""))); i == 0 {
			edge.stopLink(t.Context())
		}
	}
	edge.stopLink(t.Context())
	// One that it signed is for its own names only.
	other, authority := signed(t, "another.example.org")
	trusted.AddCert(authority)
	shown.Store(other)
	connect(&tls.Config{RootCAs: trusted, ServerName: "hub.example.org"})
	eventually(t, "the name does not fit", func() bool { return strings.Contains(edge.uplink.Status().Error, "does not fit --hub-address") })
	edge.stopLink(t.Context())
	connect(&tls.Config{RootCAs: trusted, ServerName: "another.example.org"})
	edge.level()
}

// signed is a certificate for a name, and the authority that signed it.
func signed(t *testing.T, name string) (*tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if authority, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority
}
