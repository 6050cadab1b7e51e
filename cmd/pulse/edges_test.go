package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/query"
)

// A linkWorld is a hub and an edge with their config files.
type linkWorld struct {
	t                 *testing.T
	said              *transcript // of both
	dir               string
	address           string // of the hub, for edges
	hub, edge         *pulseproc.Server
	hubFile, edgeFile string
	token             string // that the hub has for the edge
}

func newLinkWorld(t *testing.T) *linkWorld {
	dir := t.TempDir()
	w := &linkWorld{t: t, said: &transcript{}, dir: dir, address: freeport.Of(t), hubFile: filepath.Join(dir, "hub.json"), edgeFile: filepath.Join(dir, "edge.json")}
	w.token = "first-" + mark + "-of-the-edge"
	w.writeHub("ams1", w.token)
	w.writeEdge(w.token)
	server := func(name, file string, more ...string) *pulseproc.Server {
		return serverOf(t, pulseproc.Options{DataDir: filepath.Join(dir, name), Token: "token-" + mark, Output: w.said, Args: append([]string{"--config-file", file}, more...)})
	}
	w.hub, w.edge = server("hub", w.hubFile), server("edge", w.edgeFile, "--host-stats")
	return w
}

// writeHub writes the config file of the hub, which has one edge.
func (w *linkWorld) writeHub(edge, token string) {
	w.write(w.hubFile, map[string]any{"hub-listen-address": w.address, "edges": map[string]any{edge: map[string]string{"token": token}}})
}

// writeEdge writes the config file of the edge.
func (w *linkWorld) writeEdge(token string) {
	w.write(w.edgeFile, map[string]any{"edge-name": "ams1", "hub-address": w.address, "hub-token": token, "hub-ca": filepath.Join(w.dir, "trusted.pem")})
}

func (w *linkWorld) write(file string, values map[string]any) {
	w.t.Helper()
	values["influx-address"], values["token"], values["poll-interval"], values["log-level"] = "embedded", "token-"+mark, 1, "DEBUG"
	text, err := json.Marshal(values)
	if err != nil {
		w.t.Fatal(err)
	}
	writeFile(w.t, file, string(text))
}

// trust has the edge trust the certificate that the hub has made for itself.
func (w *linkWorld) trust() {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "hub", "tls", "cert.pem"))
	if err != nil {
		w.t.Fatal(err)
	}
	writeFile(w.t, filepath.Join(w.dir, "trusted.pem"), string(text))
}

func (w *linkWorld) hangUp(s *pulseproc.Server) {
	w.t.Helper()
	if err := syscall.Kill(s.Pid(), syscall.SIGHUP); err != nil {
		w.t.Fatal(err)
	}
}

// await waits until the edge's link is in a state, for a reason that has want in it.
func (w *linkWorld) await(state, want string) {
	w.t.Helper()
	await(w.t, w.edge, "the link is "+state, time.Minute, func() error {
		var status query.Status
		if err := w.edge.Get("/status", &status); err != nil {
			return err
		}
		if u := status.Uplink; u == nil || u.State != state || !strings.Contains(u.Error, want) || state == "connected" && (u.HubHas == 0 || u.Lacks > 3) {
			return fmt.Errorf("it is %+v", u)
		}
		return nil
	})
}

// show runs a command that shows something of a server, as people see it.
func (w *linkWorld) show(name string, s *pulseproc.Server) string {
	w.t.Helper()
	w.t.Setenv("PULSE_TOKEN", "token-"+mark)
	return pulse(w.t, command.ExitOK, name, "--api", s.HTTPAddr)
}

// TestEdgeAndHub makes a hub and an edge of two processes. Reloads take away the edge's token, give it
// another, and put another certificate in the place of the hub's. The commands show each step, and no
// secret is told.
func TestEdgeAndHub(t *testing.T) {
	w := newLinkWorld(t)
	if err := w.hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.trust()
	if err := w.edge.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.await("connected", "")
	if said := w.hub.Log(); !strings.Contains(said, "  edges    "+w.address+" (1 known; --hub-ca "+filepath.Join(w.dir, "hub", "tls", "cert.pem")+")\n") {
		t.Errorf("the hub greets with %s", said)
	}
	if said := w.edge.Log(); !strings.Contains(said, "  hub      "+w.address+" (this is its edge ams1)\n") {
		t.Errorf("the edge greets with %s", said)
	}
	for _, shown := range []struct{ text, want string }{
		{w.show("edges", w.hub), "\nams1  connected "}, {w.show("status", w.hub), "edges     1 connected, 0 silent"}, {w.show("status", w.edge), "hub       " + w.address + " as ams1: connected since "},
	} {
		if !strings.Contains(shown.text, shown.want) {
			t.Errorf("it lacks %q:\n%s", shown.want, shown.text)
		}
	}
	if text := pulse(t, command.ExitFailure, "edges", "--api", w.edge.HTTPAddr); !strings.Contains(text, "hub") {
		t.Errorf("pulse edges at an edge says %q", text)
	}

	w.writeHub("ber1", "another-"+mark+"-of-another") // which leaves ams1 off
	w.hangUp(w.hub)
	w.await("refused", "the hub knows no edge ams1 with this token")
	if text := w.show("edges", w.hub); !strings.Contains(text, "\nber1  never ") || !strings.Contains(text, "\nams1  off ") {
		t.Errorf("it shows\n%s", text)
	}
	w.writeHub("ams1", "second-"+mark+"-of-the-edge")
	w.hangUp(w.hub)
	w.writeEdge("second-" + mark + "-of-the-edge")
	w.hangUp(w.edge)
	w.await("connected", "")

	other := filepath.Join(w.dir, "hub", "tls") // the hub's own certificate is made again
	if err := os.RemoveAll(other); err != nil {
		t.Fatal(err)
	}
	if err := selfsigned.Make(filepath.Join(other, "cert.pem"), filepath.Join(other, "key.pem"), "pulse"); err != nil {
		t.Fatal(err)
	}
	if err := w.hub.Stop(); err != nil {
		t.Error(err)
	}
	if err := w.hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.await("connecting", "the hub's certificate is not trusted: give the certificate that it has now, or that of its authority, with --hub-ca")
	w.trust()
	w.hangUp(w.edge)
	w.await("connected", "")

	for _, s := range []*pulseproc.Server{w.edge, w.hub} {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	w.said.check(t, 50)
}
