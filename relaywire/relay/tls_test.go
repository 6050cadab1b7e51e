package relay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// certificate returns a self-signed certificate for 127.0.0.1 and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLSAndToken runs a session over TLS, with the heartbeat by read deadline and the farewell by
// half-close.
func TestTLSAndToken(t *testing.T) {
	cert, pool := certificate(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan *peer, 10)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- newPeer(t, conn)
		}
	}()
	// A server certificate that the relay does not trust ends the connection before the token is
	// sent.
	stranger := start(t, relay.Options{Address: ln.Addr().String(), ID: "stranger", Token: "s3cret", TLS: &tls.Config{RootCAs: x509.NewCertPool()}})
	(<-accepted).expectHangUp()
	eventually(t, "the stranger's failure is noted", func() bool { return stranger.State().LastError != nil })
	stranger.Close()

	r := start(t, relay.Options{Address: ln.Addr().String(), ID: "web1", Token: "s3cret", TLS: &tls.Config{RootCAs: pool}})
	var p *peer
	for line := ""; line != "id web1"; line, _ = p.line() {
		select {
		case p = <-accepted: // of the stranger, if it has dialled again
		case <-time.After(patience):
			t.Fatal("the relay does not connect")
		}
	}
	p.say("error missing token: send id {id} token:{token}")
	p.expect("id web1 token:s3cret")
	p.say("ok", "beat 0.02")
	add(t, r, "cpu", point(1))
	pings, adds := 0, 0
	for pings < 2 {
		line, ok := p.line()
		if !ok {
			t.Fatal("the relay hung up")
		}
		switch line {
		case "ping":
			pings++
			p.say("pong")
		case "add cpu:":
			adds++
		}
	}
	p.alive.Store(true)
	p.say("beat 30", "get cpu")
	for line, ok := "", true; line != "got cpu-cpu:1"; line, ok = p.line() {
		if !ok {
			t.Fatal("the relay hung up")
		}
	}
	if st := r.State(); adds != 1 || !st.Connected || st.Connects != 1 {
		t.Errorf("%d adds, %+v", adds, st)
	}
	go r.Close()
	p.expect("remove cpu", "close")
	p.expectHangUp()
}
