package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/nanopack/pulse/internal/selfsigned"
)

// A certificate is what TLS clients are shown. A reload puts another in its place; connections that
// exist stay.
type certificate struct {
	pair atomic.Pointer[tls.Certificate]
}

// tlsConfig is the configuration of the listeners that show the certificate.
func (c *certificate) tlsConfig() *tls.Config {
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: get}
}

// usesTLS reports whether any listener wants a certificate.
func (c *Config) usesTLS() bool { return c.RelayTLS || !c.Insecure || c.HubListenAddress != "" }

// loadCertificate reads the certificate that the configuration names. Without one it reads the
// self-signed certificate of the data dir, which it makes once, so that clients can pin it.
func loadCertificate(c *Config) (*tls.Certificate, error) {
	cert, key := c.TLSCert, c.TLSKey
	if cert == "" {
		dir := filepath.Join(c.DataDir, "tls")
		cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		for _, path := range []string{cert, key} {
			// Opening a pipe would wait for ever. A pipe that is named with --tls-cert is allowed.
			if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
				return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %s is not a plain file; remove both to have new ones made", cert, key, path)
			}
		}
		if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
			if err := selfsigned.Make(cert, key, "pulse", c.HTTPAddress, c.RelayAddress, c.NATSAddress, c.HubListenAddress); err != nil {
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
