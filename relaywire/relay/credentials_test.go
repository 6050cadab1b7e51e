package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
)

// TestSetCredentialsRefuses checks that credentials that no connection could use are refused and
// change nothing.
func TestSetCredentialsRefuses(t *testing.T) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	r, err := New(Options{Address: "pulse.example.org:3000", ID: "a", Token: "one", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetCredentials("two words", nil); !errors.Is(err, ErrName) {
		t.Errorf("a token with a blank: %v", err)
	}
	if err := r.SetCredentials("two", &tls.Config{}); !errors.Is(err, ErrOptions) {
		t.Errorf("TLS for a relay without: %v", err)
	}
	if token, conf := r.credentials(); token != "one" || conf != nil {
		t.Errorf("it has %q and %v", token, conf)
	}
	if err := r.SetCredentials("", nil); err != nil {
		t.Error(err)
	}
	if token, _ := r.credentials(); token != "" {
		t.Errorf("it has %q", token)
	}
	secure, err := New(Options{Address: "pulse.example.org:3000", ID: "a", TLS: &tls.Config{}, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	if err := secure.SetCredentials("two", &tls.Config{MinVersion: tls.VersionTLS13}); err != nil {
		t.Error(err)
	}
	if _, conf := secure.credentials(); conf.ServerName != "pulse.example.org" || conf.MinVersion != tls.VersionTLS13 {
		t.Errorf("it has %+v", conf)
	}
}
