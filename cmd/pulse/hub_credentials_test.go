package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// openServer is a server with an address for NATS clients.
type openServer struct {
	*pulseproc.Server
	nats string
}

// opens lists what a secret opens of a server: its API, its NATS port, its relay port.
func (s openServer) opens(t *testing.T, secret string, users ...string) (opened []string) {
	t.Helper()
	for _, path := range []string{"/latest/cpu_used", "/status", "/edges", "/backup", "/relays"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-AUTH-TOKEN", secret)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close() // nothing of it is read
			if answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusMethodNotAllowed {
				opened = append(opened, fmt.Sprint(method, " ", path, ": ", answer.StatusCode))
			}
		}
	}
	for _, user := range users {
		if nc, err := nats.Connect(s.nats, nats.UserInfo(user, secret)); err == nil {
			nc.Close()
			opened = append(opened, "NATS as "+user)
		}
	}
	relay, err := net.Dial("tcp", s.RelayAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	if _, err := fmt.Fprintf(relay, "id thief token:%s\n", secret); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 256)
	if n, _ := relay.Read(line); !strings.HasPrefix(string(line[:n]), "error") {
		opened = append(opened, fmt.Sprintf("a relay: %q", line[:n]))
	}
	return opened
}

// TestHubCredentials: an edge's token opens its link and nothing else, at the hub or at another edge; the
// hub's secrets open nothing at an edge.
func TestHubCredentials(t *testing.T) {
	address, cert, key := freeport.Of(t), filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := selfsigned.Make(cert, key, "hub", address); err != nil {
		t.Fatal(err)
	}
	start := func(token string, args ...string) openServer {
		at := freeport.Of(t)
		s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Token: token,
			Args: append(args, "--token", token, "--relay-token", "relays-"+token, "--nats-listen-address", at)})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return openServer{s, at}
	}
	hub := start("secret-of-hub", "--hub-listen-address", address, "--edges", "ams1=token-of-ams1,fra1=token-of-fra1", "--tls-cert", cert, "--tls-key", key)
	ams := start("secret-of-ams", "--edge-name", "ams1", "--hub-address", address, "--hub-token", "token-of-ams1", "--hub-ca", cert)
	for _, c := range []struct {
		at     openServer
		secret string
	}{
		{hub, "token-of-ams1"}, {ams, "token-of-ams1"}, {ams, "token-of-fra1"}, {ams, "secret-of-hub"}, {ams, "relays-secret-of-hub"}, {hub, "secret-of-ams"},
	} {
		if opened := c.at.opens(t, c.secret, "pulse", "ams1", "edge", "outside", "journal"); len(opened) > 0 {
			t.Errorf("%s opens %v", c.secret, opened)
		}
	}
	// The port for edges speaks nothing but the link.
	for _, secret := range []string{"token-of-ams1", "secret-of-hub"} {
		if nc, err := nats.Connect("tls://"+address, nats.UserInfo("pulse", secret), nats.Secure(&tls.Config{InsecureSkipVerify: true}), nats.Timeout(time.Second)); err == nil {
			nc.Close()
			t.Errorf("the port for edges takes a NATS client with %s", secret)
		}
	}
	// One edge cannot come under another's name.
	thief := start("secret-of-thief", "--edge-name", "fra1", "--hub-address", address, "--hub-token", "token-of-ams1", "--hub-ca", cert)
	await(t, thief.Server, "the thief is refused", time.Minute, func() error {
		var status struct {
			Uplink struct{ State, Error string }
		}
		err := thief.Get("/status", &status)
		if err == nil && (status.Uplink.State != link.StateRefused || !strings.Contains(status.Uplink.Error, "no edge fra1 with this token")) {
			err = fmt.Errorf("%+v", status.Uplink)
		}
		return err
	})
}

// TestHubMayAskLittle: a hub, whoever runs it, can ask an edge for its relays and overrides. Whatever
// else it asks for is refused, and the edge's journal has nothing of it.
func TestHubMayAskLittle(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := selfsigned.Make(cert, key, "hub"); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(dir, "hub.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	hub, err := link.NewHub(link.HubOptions{Listener: listener, TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Journal: journaltest.Open(t), DB: db,
		Tokens: map[string]string{"ams1": "token-of-ams1"}})
	if err != nil {
		t.Fatal(err)
	}
	hub.Start()
	defer func() {
		if err := hub.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	edge := startServer(t, t.TempDir(), "--edge-name", "ams1", "--hub-address", listener.Addr().String(), "--hub-token", "token-of-ams1", "--hub-ca", cert)
	r := relaytest.Connect(t, edge.RelayAddr, "web1")
	r.Add("cpu") // the second event, after that it is connected
	level := func() error {
		if e := hub.Edges()[0]; e.State != link.StateConnected || e.Has < 2 || e.Lacks > 0 {
			return fmt.Errorf("%+v", e)
		}
		return nil
	}
	await(t, edge, "the hub has everything", time.Minute, level)
	before := hub.Edges()[0].Last
	for _, what := range []string{
		"flush", "forget", "replay", "backup", "alerts", "consumers", "rejects", "query", "write", "restart", "", "$JS.API.INFO",
		"$JS.API.STREAM.CREATE.PULSE", "$JS.API.STREAM.UPDATE.PULSE", "$JS.API.STREAM.DELETE.PULSE", "$JS.API.STREAM.PURGE.PULSE", "$JS.API.STREAM.MSG.DELETE.PULSE",
		"$JS.API.STREAM.MSG.GET.PULSE", "$JS.API.STREAM.SNAPSHOT.PULSE", "$JS.API.STREAM.RESTORE.PULSE", "$JS.API.CONSUMER.CREATE.PULSE.hub", "$JS.API.CONSUMER.DELETE.PULSE.hub",
		"$JS.API.CONSUMER.RESET.PULSE.hub", "$JS.API.CONSUMER.PAUSE.PULSE.hub", "pulse.readings.web1", "pulse.relays.web1", "$SYS.REQ.SERVER.PING",
	} {
		answer, err := hub.Ask(t.Context(), "ams1", what, json.RawMessage(`{"relay":"web1","id":"x"}`))
		if refused, ok := errors.AsType[*link.Refused](err); !ok || refused.Kind != link.KindInvalid {
			t.Errorf("%s: %s, %v", what, answer, err)
		}
	}
	for what, body := range map[string]string{"relays": "", "overrides": ""} {
		if answer, err := hub.Ask(t.Context(), "ams1", what, []byte(body)); err != nil || answer[0] != '[' {
			t.Errorf("%s: %s, %v", what, answer, err)
		}
	}
	await(t, edge, "the hub has everything", time.Minute, level)
	if after := hub.Edges()[0].Last; after != before {
		t.Errorf("the edge's journal grew from %d to %d", before, after)
	}
}
