package link

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testLog(tb testing.TB, name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), nil)).With("at", name)
}

// node is one end of a link in a test, with its journal and its state file in a directory.
type node struct {
	tb      testing.TB
	name    string // of the edge; "hub"
	dir     string
	options journal.Options
	j       *journal.Journal
	db      *bbolt.DB

	hub    *Hub
	addr   string // of the hub
	uplink *Uplink
	made   int // events that were appended to the edge
}

func newNode(tb testing.TB, name string) *node {
	n := &node{tb: tb, name: name, dir: tb.TempDir()}
	n.open()
	tb.Cleanup(n.close)
	return n
}

func (n *node) open() {
	n.tb.Helper()
	var err error
	if n.db, err = bbolt.Open(filepath.Join(n.dir, "pulse.db"), 0o600, &bbolt.Options{NoSync: true}); err != nil {
		n.tb.Fatal(err)
	}
	o := n.options
	o.Dir, o.Marker, o.Sync, o.Logger = filepath.Join(n.dir, "journal"), journal.BoltMarker(n.db), journal.SyncEvery(time.Minute), testLog(n.tb, n.name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if n.j, err = journal.Open(ctx, o); err != nil {
		n.tb.Fatal(err)
	}
}

// close stops whatever runs.
func (n *node) close() {
	n.tb.Helper()
	if n.j == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n.stopLink(ctx)
	if err := n.j.Close(ctx); err != nil {
		n.tb.Error(err)
	}
	if err := n.db.Close(); err != nil {
		n.tb.Error(err)
	}
	n.j = nil
}

func (n *node) stopLink(ctx context.Context) {
	n.tb.Helper()
	if n.hub != nil {
		if err := n.hub.Stop(ctx); err != nil {
			n.tb.Error(err)
		}
		n.hub = nil
	}
	if n.uplink != nil {
		if err := n.uplink.Stop(ctx); err != nil {
			n.tb.Error(err)
		}
		n.uplink = nil
	}
}

// tokens are those of the edges in tests.
var tokens = map[string]string{"ams1": "token of ams1", "fra1": "token of fra1"}

// listen makes the node a hub, at the address that it had before.
func (n *node) listen() {
	n.tb.Helper()
	if n.addr == "" {
		n.addr = freeport.Of(n.tb)
	}
	l, err := net.Listen("tcp", n.addr)
	if err != nil {
		n.tb.Fatal(err)
	}
	if n.hub, err = NewHub(HubOptions{Listener: l, Journal: n.j, DB: n.db, Tokens: tokens, Release: "1.0", Logger: testLog(n.tb, n.name)}); err != nil {
		n.tb.Fatal(err)
	}
	n.hub.Start()
}

// connect makes the node an edge of the hub at addr.
func (n *node) connect(addr string) {
	n.tb.Helper()
	var err error
	n.uplink, err = NewUplink(UplinkOptions{Address: addr, Edge: n.name, Token: tokens[n.name], Journal: n.j, Release: "1.0", Logger: testLog(n.tb, n.name),
		Ask: func(_ context.Context, what string, body []byte) ([]byte, error) {
			switch what {
			case "echo":
				return body, nil
			case "fail":
				return nil, &Refused{KindInvalid, "no such collector"}
			}
			return nil, fmt.Errorf("%s is not known", what)
		}})
	if err != nil {
		n.tb.Fatal(err)
	}
	n.uplink.Start()
}

// make appends count events to an edge.
func (n *node) make(count int) {
	n.tb.Helper()
	var records []journal.Record
	for range count {
		n.made++
		now := time.Now().UnixNano()
		if n.made%10 == 3 {
			records = append(records, journal.Record{Relay: &codec.RelayEvent{Relay: "web1", Time: now + int64(n.made), Kind: codec.RelayAdded, Collector: "c", Tags: []string{"a:b"}}})
			continue
		}
		records = append(records, journal.Record{Event: &codec.Event{Relay: fmt.Sprint("web", n.made%3), Time: now + int64(n.made), Collectors: []codec.Collector{
			{Name: "cpu", Tags: []string{"x:y"}, Stats: []codec.Stat{{ID: "used", Value: float64(n.made)}, {ID: "idle", Value: 0.5}}}}}})
	}
	if got, err := n.j.AppendInOrder(n.tb.Context(), records); got != count || err != nil {
		n.tb.Fatal(got, err)
	}
}

// content is what a journal holds of an edge ("" of its own), by the order of its records.
func (n *node) content(edge string) (list []journal.Record) {
	n.tb.Helper()
	err := n.j.Range(n.tb.Context(), journal.Span{First: 1, Last: math.MaxUint64}, func(records []journal.Record, _ *journal.GapError) error {
		for _, r := range records {
			switch {
			case r.Err != nil:
				n.tb.Errorf("%s: record %d: %v", n.name, r.Seq, r.Err)
			case r.Event != nil && r.Event.Edge == edge:
				e := codec.Pack([]codec.Event{*r.Event})[0]
				list = append(list, journal.Record{Seq: r.Seq, Event: &e})
			case r.Relay != nil && r.Relay.Edge == edge && r.Relay.Kind != codec.RelaySkipped:
				list = append(list, journal.Record{Seq: r.Seq, Relay: r.Relay})
			}
		}
		return nil
	})
	if err != nil {
		n.tb.Fatal(err)
	}
	return list
}

// text is a record without what a hub adds to it.
func text(tb testing.TB, r journal.Record) string {
	tb.Helper()
	if r.Relay != nil {
		e := *r.Relay
		e.Edge, e.Origin = "", 0
		return string(codec.EncodeRelayEvent(nil, &e))
	}
	e := *r.Event
	e.Edge, e.Origin, e.Past = "", 0, false
	data, err := codec.EncodeEvent(nil, &e)
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

// texts are those of records.
func texts(tb testing.TB, records []journal.Record) (list []string) {
	tb.Helper()
	for _, r := range records {
		list = append(list, text(tb, r))
	}
	return list
}

// same fails the test unless the hub has exactly these records of an edge, in their order.
func (n *node) same(edge string, want []string) {
	n.tb.Helper()
	got := texts(n.tb, n.content(edge))
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	n.tb.Fatalf("the hub has %d records of %s instead of %d; the first that differs is number %d", len(got), edge, len(want), at+1)
}

// level waits until the hub has everything that the edge has.
func (n *node) level() {
	n.tb.Helper()
	eventually(n.tb, "everything is at the hub", func() bool {
		s := n.uplink.Status()
		return s.State == StateConnected && s.Lacks == 0
	})
}

func (n *node) edge(name string) Edge {
	for _, e := range n.hub.Edges() {
		if e.Name == name {
			return e
		}
	}
	return Edge{}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within 30 s: %s", what)
		}
	}
}

// copyDir makes to a copy of from.
func copyDir(tb testing.TB, from, to string) {
	tb.Helper()
	if err := os.RemoveAll(to); err != nil {
		tb.Fatal(err)
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		tb.Fatal(err)
	}
}
