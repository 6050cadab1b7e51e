package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

const (
	// attemptEvery is how often an attempt to connect begins, attemptTimeout how long one may take,
	// and maxAttempts how many may be under way. So a network that is slow has its time, and one that
	// is back after a silence is noticed within a second or so: the first attempt that gets a greeting
	// is the link.
	attemptEvery   = time.Second
	attemptTimeout = 10 * time.Second
	maxAttempts    = 10
)

// attempt is the outcome of one.
type attempt struct {
	c   *conn
	g   greeting
	err error
}

// connect returns a connection on which the hub has spoken. It returns nil when the Uplink is stopped.
func (u *Uplink) connect() (*conn, greeting) {
	ctx, cancel := context.WithCancel(u.ctx)
	results := make(chan attempt)
	running := 0
	begin := func() {
		running++
		go func() {
			c, g, err := u.attempt(ctx)
			results <- attempt{c, g, err}
		}()
	}
	end := func() { // of the others
		cancel()
		for ; running > 0; running-- {
			if a := <-results; a.c != nil {
				_ = a.c.Close() // it is not needed
			}
		}
	}
	tick := time.NewTicker(attemptEvery)
	defer tick.Stop()
	begin()
	for {
		select {
		case a := <-results:
			running--
			if a.err == nil {
				end()
				return a.c, a.g
			}
			u.set(StateConnecting, why(a.err))
			u.log.WarnRarely("dial", "the hub cannot be reached; the journal keeps what it lacks", "err", why(a.err))
		case <-tick.C:
			if running < maxAttempts {
				begin()
			}
		case <-u.ctx.Done():
			end()
			return nil, greeting{}
		}
	}
}

// attempt dials and waits for the greeting.
func (u *Uplink) attempt(ctx context.Context) (*conn, greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", u.o.Address)
	if err != nil {
		return nil, greeting{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // the attempt takes too long, or is not needed
	u.mu.Lock()
	config := u.tls
	u.mu.Unlock()
	if config != nil {
		raw = tls.Client(raw, u.verifying(config.Clone()))
	}
	c := newConn(raw, attemptTimeout)
	var g greeting
	err = c.expect(frameGreeting, &g)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close() // nobody uses it
		return nil, greeting{}, greetingError(err)
	}
	c.idle = edgeIdle
	return c, g, nil
}

// verifying is the configuration of a connection. The hub's certificate must be trusted, and be for the
// name that is dialled, unless it is itself one of those that are trusted: who was given this very
// certificate may reach the hub by any name.
func (u *Uplink) verifying(config *tls.Config) *tls.Config {
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(u.o.Address)
	}
	name, roots := config.ServerName, config.RootCAs
	config.InsecureSkipVerify = true // VerifyConnection does it
	config.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		o := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := leaf.Verify(o)
		if _, ok := errors.AsType[x509.HostnameError](err); !ok {
			return err
		}
		o.DNSName = ""
		chains, invalid := leaf.Verify(o)
		if invalid == nil && slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return len(chain) == 1 }) {
			return nil
		}
		return err
	}
	return config
}

// greetingError says what to do about a certificate that is not trusted.
func greetingError(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return errors.New("the hub's certificate is not trusted: give the certificate that it has now, or that of its authority, with --hub-ca")
	case errors.As(err, &noTLS):
		return fmt.Errorf("no TLS there: is it the hub's --hub-listen-address? (%w)", err)
	case errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Errorf("the hub's certificate does not fit --hub-address (%w)", err)
	}
	return err
}
