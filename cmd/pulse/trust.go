package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// A trust decides whether an edge is connected to its hub. A reload puts other certificates in place
// of those that it trusts.
type trust struct {
	host string // of --hub-address
	file atomic.Pointer[trustFile]
}

// A trustFile is what --hub-ca holds.
type trustFile struct {
	text  []byte         // the file
	roots *x509.CertPool // nil for the system's
	each  []*x509.Certificate
}

// loadTrust reads the file of --hub-ca, or nothing if its name is "".
func loadTrust(name string) (*trustFile, error) {
	if name == "" {
		return &trustFile{}, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--hub-ca: %w", err)
	}
	f := &trustFile{text: text, roots: x509.NewCertPool()}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("--hub-ca: %s: %w", name, err)
		}
		f.roots.AddCert(one)
		f.each = append(f.each, one)
	}
	if len(f.each) == 0 {
		return nil, fmt.Errorf("--hub-ca: %s holds no PEM certificate", name)
	}
	return f, nil
}

// newTrust returns the trust of an edge.
func newTrust(c *Config) (*trust, error) {
	host, _, err := net.SplitHostPort(c.HubAddress)
	if err != nil {
		return nil, fmt.Errorf("--hub-address: %w", err)
	}
	file, err := loadTrust(c.HubCA)
	if err != nil {
		return nil, err
	}
	t := &trust{host: host}
	t.file.Store(file)
	return t, nil
}

// tlsConfig is the configuration of connections to the hub.
func (t *trust) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.host,
		InsecureSkipVerify: true, // verify does it
		VerifyConnection:   t.verify,
	}
}

// verify does what package tls does, with one exception. If the file holds the very certificate that
// the hub shows, the names in the certificate do not matter: a hub that made its own certificate
// cannot know by which name or address its edges reach it.
func (t *trust) verify(s tls.ConnectionState) error {
	file, shown := t.file.Load(), s.PeerCertificates
	o := x509.VerifyOptions{Roots: file.roots, DNSName: t.host, Intermediates: x509.NewCertPool()}
	for _, one := range shown[1:] {
		o.Intermediates.AddCert(one)
	}
	for _, one := range file.each {
		if one.Equal(shown[0]) {
			o.DNSName = ""
		}
	}
	_, err := shown[0].Verify(o)
	return err
}

// reload takes over the file that a reload has read, and reports whether it is another.
func (t *trust) reload(file *trustFile) (changed bool) {
	return !bytes.Equal(t.file.Swap(file).text, file.text)
}
