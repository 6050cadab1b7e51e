package query

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/journal/link"
)

// TestOverALink asks a hub over HTTP for an edge behind a real link, and again when the link is
// down.
func TestOverALink(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "pulse.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucketIfNotExists([]byte("edges")); return err }); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, err := link.NewHub(link.HubOptions{Listener: l, Journal: journaltest.Open(t), DB: db, Tokens: map[string]string{"ams1": "a", "fra1": "f"}, Release: "0.5.0"})
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	control, relays := goldenControl()
	j := journaltest.Open(t)
	up, err := link.NewUplink(link.UplinkOptions{Address: l.Addr().String(), Edge: "ams1", Token: "a", Journal: j, Release: "0.5.0",
		Ask: Asked(&control, &relays, slog.New(slog.DiscardHandler))})
	if err != nil {
		t.Fatal(err)
	}
	up.Start()
	stop := func(of func(context.Context) error) func() {
		return func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := of(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop(h.Stop))
	t.Cleanup(stop(up.Stop))

	at := startWorld(t, func(o *Options) { o.Edges = h })
	edge := startWorld(t, func(o *Options) { o.Uplink = up })
	eventually(t, "connected", func() bool {
		return h.Edges()[0].State == link.StateConnected && up.Status().State == link.StateConnected
	})
	at.get(t, "/status").contains(t, http.StatusOK, "\"edges\": {\n    \"connected\": 1,\n    \"silent\": 0\n  }")
	edge.get(t, "/status").contains(t, http.StatusOK, `"state": "connected"`)

	const made = `{"id":"o2","duration":60,"remaining":60,"created":"2026-11-23T10:20:30Z","until":"2026-11-23T10:21:30Z","collectors":{"cpu":5},"relays":["web1"]}` + "\n"
	at.do(t, "POST", "/overrides", `{"edge": "ams1", "duration": 60, "collectors": {"cpu": "5s"}}`).want(t, http.StatusOK, made)
	at.do(t, "POST", "/overrides?edge=ams1", `{"duration": 1, "collectors": {"cpu": "5s"}}`).contains(t, http.StatusBadRequest, "edge ams1: the interval of cpu")
	at.get(t, "/overrides?edge=ams1").contains(t, http.StatusOK, `[{"id":"o1"`)
	at.do(t, "DELETE", "/overrides/o1?edge=ams1", "").want(t, http.StatusOK, `{"msg":"Success"}`+"\n")
	at.do(t, "DELETE", "/overrides/o7?edge=ams1", "").contains(t, http.StatusNotFound, "edge ams1: not found")
	at.do(t, "POST", "/flush?edge=ams1", "").contains(t, http.StatusBadRequest, "a hub may change nothing at an edge but overrides")
	at.get(t, "/relays?edge=ams1").contains(t, http.StatusOK, `[{"id":"web1","connected":true`)
	at.do(t, "DELETE", "/relays/web1?edge=ams1", "").contains(t, http.StatusBadRequest, "a hub may change nothing at an edge but overrides")
	at.get(t, "/overrides?edge=fra1").contains(t, http.StatusServiceUnavailable, "edge fra1 has never connected")
	at.get(t, "/overrides?edge=lon1").contains(t, http.StatusNotFound, "no edge")

	h.SetTokens(map[string]string{"fra1": "f"})
	eventually(t, "the hub has no link", func() bool { return h.Edges()[0].State == link.StateOff })
	at.do(t, "POST", "/overrides", `{"edge":"ams1","duration":60,"collectors":{"cpu":5}}`).contains(t, http.StatusServiceUnavailable, "edge ams1 has no token here any more: nothing was changed")
	eventually(t, "refused", func() bool { return up.Status().State == link.StateRefused })
	edge.get(t, "/readyz").contains(t, http.StatusOK, "the hub refuses this edge")
	eventually(t, "listed as refused", func() bool { return len(h.RefusedNames()) > 0 || h.Edges()[0].Refused != nil })
	at.get(t, "/edges").contains(t, http.StatusOK, `"name":"ams1"`)
}
