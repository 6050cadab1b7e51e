package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/relaywire/relay"
)

// A reloadWorld is a server with its config file and everything that a reload can change.
type reloadWorld struct {
	t      *testing.T
	server *pulseproc.Server
	nats   string // address
	file   string
	values map[string]any
	dirs   [2]string // of certificates
}

func newReloadWorld(t *testing.T) *reloadWorld {
	t.Helper()
	dir := t.TempDir()
	w := &reloadWorld{t: t, nats: freeport.Of(t), file: filepath.Join(dir, "pulse.json"), dirs: [2]string{filepath.Join(dir, "one"), filepath.Join(dir, "two")}}
	for _, dir := range w.dirs {
		if err := selfsigned.Make(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), "pulse"); err != nil {
			t.Fatal(err)
		}
	}
	w.values = map[string]any{
		"token": "token-of-the-beginning", "relay-token": "relays-of-the-beginning", "cors-allow": "https://one.example.org", "log-level": "WARN",
		"tls-cert": filepath.Join(dir, "cert.pem"), "tls-key": filepath.Join(dir, "key.pem"), "insecure": false, "relay-tls": true,
		"poll-interval": 1, "influx-address": "embedded", "nats-listen-address": "127.0.0.1:1",
	}
	w.write(nil)
	w.certificate(0)
	w.server = serverOf(t, pulseproc.Options{DataDir: filepath.Join(dir, "data"), TLS: anyCertificate(), Token: "token-of-the-beginning",
		Args: []string{"--config-file", w.file, "--host-stats", "--nats-listen-address", w.nats}}) // flags override the file
	return w
}

// write writes the config file with some values changed.
func (w *reloadWorld) write(other map[string]any) {
	w.t.Helper()
	values := maps.Clone(w.values)
	maps.Copy(values, other)
	text, err := json.Marshal(values)
	if err != nil {
		w.t.Fatal(err)
	}
	writeFile(w.t, w.file, string(text))
}

// certificate installs one of the two certificates.
func (w *reloadWorld) certificate(i int) {
	w.t.Helper()
	for _, name := range []string{"cert.pem", "key.pem"} {
		text, err := os.ReadFile(filepath.Join(w.dirs[i], name))
		if err != nil {
			w.t.Fatal(err)
		}
		writeFile(w.t, filepath.Join(filepath.Dir(w.file), name), string(text))
	}
}

// reload sends a SIGHUP and waits for a log line that contains want.
func (w *reloadWorld) reload(want string) {
	w.t.Helper()
	seen := strings.Count(w.server.Log(), want)
	if err := syscall.Kill(w.server.Pid(), syscall.SIGHUP); err != nil {
		w.t.Fatal(err)
	}
	await(w.t, w.server, "the line "+want, time.Minute, func() error {
		if strings.Count(w.server.Log(), want) == seen {
			return fmt.Errorf("it is not in the log")
		}
		return nil
	})
}

// trusting returns a client's configuration that trusts only one of the two certificates.
func (w *reloadWorld) trusting(i int) *tls.Config {
	w.t.Helper()
	config, err := command.ClientTLS(true, filepath.Join(w.dirs[i], "cert.pem"))
	if err != nil {
		w.t.Fatal(err)
	}
	return config
}

// wantServed fails the test unless the API, the relay port and the NATS listener use the
// certificate i and require these tokens.
func (w *reloadWorld) wantServed(i int, token, relayToken, cors string) {
	w.t.Helper()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: w.trusting(i), DisableKeepAlives: true}}
	for given, status := range map[string]int{token: 200, "wrong-" + token: 401} {
		request, err := http.NewRequest(http.MethodGet, "https://"+w.server.HTTPAddr+"/ping", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		request.Header.Set("X-AUTH-TOKEN", given)
		response, err := client.Do(request)
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if origin := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != status || origin != cors {
			w.t.Errorf("the API answers %d to %q, for %q; want %d, %q", response.StatusCode, given, origin, status, cors)
		}
	}
	conn, err := nats.Connect("tls://"+w.nats, nats.UserInfo("pulse", token), nats.Secure(w.trusting(i)))
	if err != nil {
		w.t.Error("NATS: ", err)
	} else {
		conn.Close()
	}
	w.connect("probe", relayToken, i).Close()
}

// connect connects a relay.
func (w *reloadWorld) connect(id, token string, i int) *relay.Relay {
	w.t.Helper()
	r, err := relay.New(relay.Options{Address: w.server.RelayAddr, ID: id, Token: token, TLS: w.trusting(i)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	await(w.t, w.server, "the relay "+id, time.Minute, func() error {
		if state := r.State(); !state.Connected {
			return fmt.Errorf("it is %+v", state)
		}
		return nil
	})
	return r
}

// TestReload changes by SIGHUP every value that a running server can change, and one that it
// cannot. Open connections stay, and new connections get the new values. A wrong configuration
// changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	w := newReloadWorld(t)
	if err := w.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantServed(0, "token-of-the-beginning", "relays-of-the-beginning", "https://one.example.org")
	conn, err := nats.Connect("tls://"+w.nats, nats.UserInfo("pulse", "token-of-the-beginning"), nats.Secure(w.trusting(0)), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	early := w.connect("early", "relays-of-the-beginning", 0)

	for text, want := range map[string]string{
		`{"token": }`: "--config-file",
		`{"token": "t", "tls-cert": "nowhere.pem", "tls-key": "nowhere.pem", "insecure": false}`: "--tls-cert",
		`{"relay-token": "two words"}`:          "--relay-token",
		`{"token": "two", "log-level": "loud"}`: "--log-level",
	} {
		writeFile(t, w.file, text)
		w.reload(`msg="not reloaded: everything stays as it was" error="` + want)
	}
	w.write(map[string]any{"token": "token-of-a-wrong-time"})
	writeFile(t, filepath.Join(filepath.Dir(w.file), "key.pem"), "no key")
	w.reload("not reloaded: everything stays as it was")
	w.certificate(0)
	w.wantServed(0, "token-of-the-beginning", "relays-of-the-beginning", "https://one.example.org")

	w.certificate(1)
	w.write(map[string]any{"token": "token-of-today", "read-token": "readers-of-today", "relay-token": "relays-of-today", "cors-allow": "https://two.example.org", "log-level": "DEBUG",
		"poll-interval": 2, "beat-interval": 3})
	w.reload(`msg=reloaded changed="--cors-allow, --log-level, --read-token, --relay-token, --token, the certificate"`)
	await(t, w.server, "what is left", time.Minute, func() error {
		if !strings.Contains(w.server.Log(), `msg="new values are ignored until a restart" flags="--beat-interval, --poll-interval"`) {
			return fmt.Errorf("it is not said")
		}
		return nil
	})
	w.wantServed(1, "token-of-today", "relays-of-today", "https://two.example.org")
	if _, err := nats.Connect("tls://"+w.nats, nats.UserInfo("pulse", "token-of-the-beginning"), nats.Secure(w.trusting(1))); err == nil {
		t.Error("NATS takes the old token")
	}
	reader, err := nats.Connect("tls://"+w.nats, nats.UserInfo("pulse", "readers-of-today"), nats.Secure(w.trusting(1)))
	if err != nil {
		t.Fatalf("NATS does not take the read token: %v", err)
	}
	reader.Close()
	if err := conn.Flush(); err != nil {
		t.Error("the NATS client that was connected: ", err)
	}
	if state := early.State(); !state.Connected || state.Connects != 1 {
		t.Errorf("the relay that was connected: %+v", state)
	}
	await(t, w.server, "a line of DEBUG", time.Minute, func() error {
		if !strings.Contains(w.server.Log(), "level=DEBUG") {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	for range 50 { // all at the same moment
		if err := syscall.Kill(w.server.Pid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	w.wantServed(1, "token-of-today", "relays-of-today", "https://two.example.org")
	if err := w.server.Stop(); err != nil {
		t.Error(err)
	}
}

// TestHangupsOutsideOfServing sends SIGHUPs while a server starts, and while it stops.
func TestHangupsOutsideOfServing(t *testing.T) {
	t.Parallel()
	systemd := listenNotify(t)
	s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Args: []string{"--influx-address", "embedded", "--host-stats"}, Env: []string{"NOTIFY_SOCKET=" + systemd.path}})
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	hangUp := func() {
		if err := syscall.Kill(s.Pid(), syscall.SIGHUP); err != nil && !errors.Is(err, syscall.ESRCH) { // it may have ended
			t.Fatal(err)
		}
	}
	systemd.await("STATUS=opening")
	for range 10 {
		hangUp()
	}
	systemd.await("READY=1")
	await(t, s, "a reload", time.Minute, func() error {
		if !strings.Contains(s.Log(), "msg=reloaded changed=nothing") {
			return fmt.Errorf("there was none")
		}
		return nil
	})
	if err := s.Terminate(); err != nil {
		t.Fatal(err)
	}
	systemd.await("STOPPING=1")
	hangUp()
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// TestReloadMerges checks that a reload validates its values with the addresses at which the server
// listens, not with those in the file.
func TestReloadMerges(t *testing.T) {
	parse := func(args ...string) *Config {
		t.Helper()
		c, err := ParseConfig(args)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := parse("-H", "0.0.0.0:8080", "--token", "a-token-of-some-length", "--poll-interval", "5")
	if _, _, _, err := running.reloaded(parse("-H", "127.0.0.1:8080", "--poll-interval", "5")); err == nil || !strings.Contains(err.Error(), "--token") {
		t.Errorf("the default token at an address that others reach: %v", err)
	}
	merged, changed, left, err := running.reloaded(parse("--token", "another-token-of-length", "--poll-interval", "6"))
	if err != nil || merged.Token != "another-token-of-length" || merged.PollInterval != 5*time.Second || merged.HTTPAddress != "0.0.0.0:8080" ||
		!slices.Equal(changed, []string{"--token"}) || !slices.Equal(left, []string{"--http-listen-address", "--poll-interval"}) || running.Token != "a-token-of-some-length" {
		t.Errorf("%+v, changed %q, left %q, %v", merged, changed, left, err)
	}
	for _, name := range reloadable {
		if !isFlag(name) {
			t.Errorf("%s is no flag", name)
		}
	}
}
