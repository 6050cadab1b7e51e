package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A certificate is what TLS clients are shown, until another takes its place:
// connections that stand stay.
type certificate struct {
	pair atomic.Pointer[tls.Certificate]
}

// tlsConfig is for the listeners that want one.
func (c *certificate) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }}
}

// usesTLS reports whether any listener wants a certificate.
func (c *Config) usesTLS() bool { return c.RelayTLS || !c.Insecure }

// loadCertificate reads the given certificate, or a self-signed one that is made
// once and kept in the data dir, so that clients may pin it.
func loadCertificate(c *Config) (*tls.Certificate, error) {
	cert, key := c.TLSCert, c.TLSKey
	if cert == "" {
		dir := filepath.Join(c.DataDir, "tls")
		cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		for _, path := range []string{cert, key} {
			// To open a pipe waits for ever. One that somebody names with --tls-cert is wanted.
			if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
				return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %s is not a plain file; remove both to have new ones made", cert, key, path)
			}
		}
		if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
			if err := selfSign(dir, cert, key, c.HTTPAddress, c.RelayAddress, c.NATSAddress); err != nil {
				return nil, fmt.Errorf("making a self-signed certificate in %s: %w", dir, err)
			}
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		advice := "give a certificate and its key, both PEM"
		if c.TLSCert == "" {
			advice = "remove both to have new ones made"
		}
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w; %s", cert, key, err, advice)
	}
	return &pair, nil
}

// selfSign makes a certificate for this host's names. The key is written
// first: a certificate on disk means that both are complete.
func selfSign(dir, cert, key string, addresses ...string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "pulse"},
		NotBefore:             now.Add(-time.Hour), // clients whose clocks are a little behind
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if name, err := os.Hostname(); err == nil {
		template.DNSNames = append(template.DNSNames, name)
	}
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsUnspecified() {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if err == nil && host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}
