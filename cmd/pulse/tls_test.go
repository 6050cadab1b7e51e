package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/relaywire/relay"
)

// anyCertificate returns a client's configuration for tests that are not about certificates.
func anyCertificate() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
}

// TestTLSEverywhere has the API, relays and NATS clients use TLS, with the certificate that the
// server made for itself and with a given one. Clients that trust the certificate are served.
// Clients that trust another one, or do not use TLS, are not.
func TestTLSEverywhere(t *testing.T) {
	given := t.TempDir()
	givenCert, givenKey := filepath.Join(given, "cert.pem"), filepath.Join(given, "key.pem")
	if err := selfsigned.Make(givenCert, givenKey, "pulse"); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"self-signed": nil,
		"given":       {"--tls-cert", givenCert, "--tls-key", givenKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, door := t.TempDir(), freeport.Of(t)
			s := serverOf(t, pulseproc.Options{DataDir: dir, TLS: anyCertificate(), Token: "a token",
				Args: append([]string{"--influx-address", "embedded", "-p", "1", "--insecure=false", "--relay-tls", "--relay-token", "a-relay-token",
					"--token", "a token", "--nats-listen-address", door}, args...)})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			ca := givenCert
			if args == nil {
				ca = filepath.Join(dir, "tls", "cert.pem")
			}
			trusted, err := command.ClientTLS(true, ca)
			if err != nil {
				t.Fatal(err)
			}
			strangers := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
			apiOverTLS(t, s, ca, trusted, strangers)
			natsOverTLS(t, door, trusted, strangers)
			relaysOverTLS(t, s, ca, trusted, strangers)

			before, err := os.ReadFile(ca)
			if err != nil {
				t.Fatal(err)
			}
			stopProjected(t, s)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after, err := os.ReadFile(ca); err != nil || !bytes.Equal(before, after) {
				t.Errorf("clients cannot pin the certificate: it is another after a restart (%v)", err)
			}
			apiOverTLS(t, s, ca, trusted, strangers)
		})
	}
}

// The certificate that the server makes for itself is valid for every address at which the server
// listens.
func TestSelfSignedNames(t *testing.T) {
	pair, err := loadCertificate(&Config{DataDir: t.TempDir(), HTTPAddress: "192.0.2.1:8080", RelayAddress: "relays.example.org:3000", NATSAddress: "[2001:db8::1]:4222"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"192.0.2.1", "relays.example.org", "2001:db8::1", "127.0.0.1", "::1", "localhost"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

// apiOverTLS sends requests to the API as a browser and as pulse status do.
func apiOverTLS(t *testing.T, s *pulseproc.Server, ca string, trusted, strangers *tls.Config) {
	t.Helper()
	old := trusted.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for _, test := range []struct {
		name string
		tls  *tls.Config
		want string // a part of the error
	}{
		{"trusted", trusted, ""},
		{"another authority", strangers, "certificate signed by unknown authority"},
		{"TLS 1.1", old, "protocol version not supported"},
	} {
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: test.tls, DisableKeepAlives: true}}
		response, err := client.Get("https://" + s.HTTPAddr + "/healthz")
		if err == nil {
			response.Body.Close()
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("API, %s: %v, want %q", test.name, err, test.want)
		}
	}
	response, err := http.Get("http://" + s.HTTPAddr + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("over plain HTTP the API answers %s", response.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	if said := runPulse(t, "status", "--api", "https://"+s.HTTPAddr, "--tls-ca", ca, "--token", "a token"); !strings.Contains(said, "journal") {
		t.Errorf("pulse status says %q", said)
	}
}

// natsOverTLS connects to the NATS listener.
func natsOverTLS(t *testing.T, door string, trusted, strangers *tls.Config) {
	t.Helper()
	for _, test := range []struct {
		name  string
		login nats.Option
		want  string
	}{
		{"trusted", nats.Secure(trusted), ""},
		{"another authority", nats.Secure(strangers), "certificate signed by unknown authority"},
	} {
		c, err := nats.Connect("tls://"+door, nats.UserInfo("pulse", "a token"), test.login)
		if err == nil {
			c.Close()
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("NATS, %s: %v, want %q", test.name, err, test.want)
		}
	}
	// A client that ignores TLS gets the server's answer that TLS is required.
	if said := sayTo(t, door, "CONNECT {\"user\":\"pulse\",\"pass\":\"a token\",\"verbose\":true}\r\nPING\r\n"); strings.Contains(said, "PONG") ||
		!strings.Contains(said, `"tls_required":true`) {
		t.Errorf("NATS without TLS: %q", said)
	}
}

// relaysOverTLS connects relays: one of the relay library, the command, and one without TLS.
func relaysOverTLS(t *testing.T, s *pulseproc.Server, ca string, trusted, strangers *tls.Config) {
	t.Helper()
	for _, test := range []struct {
		id, token string
		tls       *tls.Config
		want      string
	}{
		{"trusted", "a-relay-token", trusted, ""},
		{"stranger", "a-relay-token", strangers, "certificate signed by unknown authority"},
		{"guesser", "a-guess", trusted, "wrong token"},
		{"plain", "a-relay-token", nil, ""},
	} {
		r, err := relay.New(relay.Options{Address: s.RelayAddr, ID: test.id, Token: test.token, TLS: test.tls})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		await(t, s, "the relay "+test.id, time.Minute, func() error {
			switch state := r.State(); {
			case test.id == "trusted" && state.Connected:
			case test.id == "plain" && !state.Connected && state.LastError != nil:
			case test.want != "" && state.LastError != nil && strings.Contains(state.LastError.Error(), test.want):
			default:
				return fmt.Errorf("it is %+v", state)
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	agent := exec.CommandContext(ctx, os.Args[0], "relay", "--server", s.RelayAddr, "--id", "agent", "--token", "a-relay-token", "--tls-ca", ca)
	agent.Env = append(os.Environ(), runAsPulse+"=1")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = agent.Wait() // it was killed
	}()
	var newest stat
	await(t, s, "a reading of pulse relay", time.Minute, func() error { return s.Get("/latest/ram_used?host=agent", &newest) })
	var relays []struct {
		ID        string
		Connected bool
	}
	if err := s.Get("/relays", &relays); err != nil {
		t.Fatal(err)
	}
	for _, r := range relays {
		if r.ID != "trusted" && r.ID != "agent" {
			t.Errorf("the relay %+v is registered", r)
		}
	}
}

// A server that other hosts can reach does not start with the default token, which everybody knows:
// it ends with exit code 78 and one line, and makes no data dir.
func TestDefaultTokenIsForLoopback(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"-H", "0.0.0.0:0"}, command.ExitUsage},
		{[]string{"-H", ":0"}, command.ExitUsage},
		{[]string{"-H", "[::]:0"}, command.ExitUsage},
		{[]string{"-H", "192.0.2.1:0"}, command.ExitUsage},
		{[]string{"-H", "0.0.0.0:0", "--insecure=false"}, command.ExitUsage},
		{[]string{"--nats-listen-address", "0.0.0.0:0"}, command.ExitUsage},
		{[]string{"-H", "0.0.0.0:0", "--token", "one of my own, and long", "--nats-listen-address", "0.0.0.0:0"}, command.ExitOK},
		{[]string{"-H", "localhost:0"}, command.ExitOK},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			server := exec.CommandContext(ctx, os.Args[0], append([]string{"-s", "-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", "127.0.0.1:0",
				"--influx-address", "embedded", "--data-dir", dir}, test.args...)...)
			server.Env = append(os.Environ(), runAsPulse+"=1")
			greeting, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			server.Stderr = &stderr
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			first := make([]byte, 5)
			if _, err := greeting.Read(first); err == nil { // the server has started
				if err := server.Process.Signal(os.Interrupt); err != nil {
					t.Error(err)
				}
			}
			err = server.Wait()
			code := command.ExitOK
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			}
			if code != test.code {
				t.Fatalf("exit code %d, want %d: %s", code, test.code, stderr.String())
			}
			if code == command.ExitOK {
				return
			}
			if said := stderr.String(); !strings.HasPrefix(said, "pulse: --token: everybody knows the default token, ") || strings.Count(said, "\n") != 1 {
				t.Errorf("it says %q", said)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("the data dir was made")
			}
		})
	}
}
