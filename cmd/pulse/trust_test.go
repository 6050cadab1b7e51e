package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A signer makes certificates.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate for a host that is valid until the given time. The signer nil signs it with
// its own key.
func (s *signer) sign(t *testing.T, host string, until time.Time) (*signer, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IsCA: s == nil, BasicConstraintsValid: true, DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	by := s
	if by == nil {
		by = &signer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{made, key}, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// file writes the certificate as PEM.
func (s *signer) file(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cert.pem")
	writeFile(t, name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})))
	return name
}

// shake returns what an edge with this configuration finds wrong with a hub that shows the certificate.
func shake(t *testing.T, config *tls.Config, shown tls.Certificate) error {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{shown}})
	if err != nil {
		t.Fatal(err)
	}
	var hub sync.WaitGroup
	hub.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake() // the edge says what is wrong
			conn.Close()
		}
	})
	conn, err := tls.Dial("tcp", listener.Addr().String(), config)
	if err == nil {
		conn.Close()
	}
	listener.Close()
	hub.Wait()
	return err
}

// TestTrust: an edge trusts the hub's own certificate under any name, and those of an authority under
// the name of the hub only.
func TestTrust(t *testing.T) {
	later := time.Now().Add(time.Hour)
	var nobody *signer
	authority, _ := nobody.sign(t, "authority", later)
	hub, ofHub := authority.sign(t, "hub.example.org", later)
	_, ofAnother := authority.sign(t, "another.example.org", later)
	pinned, ofPinned := nobody.sign(t, "localhost", later)
	old, ofOld := nobody.sign(t, "hub.example.org", time.Now().Add(-time.Hour))

	trustOf := func(file string) *trust {
		made, err := newTrust(&Config{HubAddress: "hub.example.org:7000", HubCA: file})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	for _, test := range []struct {
		what, file string
		shown      tls.Certificate
		want       any // nil: it is trusted
	}{
		{"of the authority", authority.file(t), ofHub, nil},
		{"of the authority for another host", authority.file(t), ofAnother, &name},
		{"its own, of an authority", hub.file(t), ofHub, nil},
		{"of another host of the authority", hub.file(t), ofAnother, &name},
		{"its own, under another name", pinned.file(t), ofPinned, nil},
		{"another's", pinned.file(t), ofHub, &unknown},
		{"its own, expired", old.file(t), ofOld, &invalid},
		{"one that the system does not know", "", ofHub, &unknown},
	} {
		err := shake(t, trustOf(test.file).tlsConfig(), test.shown)
		if test.want == nil && err != nil || test.want != nil && !errors.As(err, test.want) {
			t.Errorf("%s: %v", test.what, err)
		}
	}

	edge := trustOf(pinned.file(t))
	config := edge.tlsConfig()
	next, err := loadTrust(authority.file(t))
	if err != nil || !edge.reload(next) || edge.reload(next) {
		t.Errorf("a reload: %v", err)
	}
	if err := shake(t, config, ofHub); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	if err := shake(t, config, ofPinned); err == nil {
		t.Error("after a reload it trusts the certificate of before")
	}
}

func TestTrustOfNothing(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.pem")
	writeFile(t, broken, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("none")})))
	for file, want := range map[string]string{"nowhere.pem": "no such file", "config.go": "holds no PEM certificate", broken: "malformed certificate"} {
		if _, err := loadTrust(file); err == nil || !strings.HasPrefix(err.Error(), "--hub-ca: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
