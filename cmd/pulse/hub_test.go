package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// Sites are a hub and its edges, each a process, with a link between each edge and the hub that a test
// can cut.
type sites struct {
	t     *testing.T
	hub   *pulseproc.Server
	dir   string // of the hub
	port  string // where the hub listens to edges
	cert  string // of the hub
	edges []*site
}

// A site is an edge.
type site struct {
	t         *testing.T
	all       *sites
	name, dir string
	server    *pulseproc.Server
	wire      *cable
	fleet     *relaytest.Fleet // nil without

	pushers   *pushers // nil without
	backlog   *pushers // nil without; they make a backlog quickly
	pushed    func()   // ends them
	confirmed int      // how many events the edge confirmed to each; valid after pushed
}

// sitesArgs are those of every server in tests of a hub.
var sitesArgs = []string{"--influx-address", "embedded", "-p", "1", "-a", "1", "-l", "WARN"}

// newSites starts a hub and an edge for each name.
func newSites(t *testing.T, names ...string) *sites {
	t.Helper()
	s := &sites{t: t, dir: filepath.Join(t.TempDir(), "hub"), port: freeport.Of(t)}
	tls := t.TempDir() // not in the hub's data dir, which a test may wipe
	s.cert = filepath.Join(tls, "hub.crt")
	key := filepath.Join(tls, "hub.key")
	if err := selfsigned.Make(s.cert, key, "hub", s.port); err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for _, name := range append([]string{spareName}, names...) {
		tokens = append(tokens, name+"="+edgeToken(name))
	}
	s.hub = startServer(t, s.dir, slices.Concat(sitesArgs, []string{"--hub-listen-address", s.port, "--edges", strings.Join(tokens, ","), "--tls-cert", s.cert, "--tls-key", key})...)
	for _, name := range names {
		e := &site{t: t, all: s, name: name, dir: filepath.Join(t.TempDir(), name), wire: newLink(t, s.port)}
		e.server = startServer(t, e.dir, e.args()...)
		s.edges = append(s.edges, e)
	}
	return s
}

// spareName is an edge that the hub knows and that no process is.
const spareName = "spare"

func edgeToken(name string) string { return "token-of-" + name }

func (e *site) args(more ...string) []string {
	return slices.Concat(sitesArgs, []string{"--edge-name", e.name, "--hub-address", e.wire.address(), "--hub-token", edgeToken(e.name), "--hub-ca", e.all.cert}, more)
}

// uplink is what the edge says of its link.
func (e *site) uplink() (link.UplinkStatus, error) {
	var status struct{ Uplink *link.UplinkStatus }
	if err := e.server.Get("/status", &status); err != nil {
		return link.UplinkStatus{}, err
	}
	if status.Uplink == nil {
		return link.UplinkStatus{}, errors.New("/status of the edge has no uplink")
	}
	return *status.Uplink, nil
}

// seen is what the hub says of an edge.
func (s *sites) seen(name string) (link.Edge, error) {
	var answer struct{ Edges []link.Edge }
	if err := s.hub.Get("/edges", &answer); err != nil {
		return link.Edge{}, err
	}
	for _, e := range answer.Edges {
		if e.Name == name {
			return e, nil
		}
	}
	return link.Edge{}, fmt.Errorf("the hub does not list %s: %+v", name, answer.Edges)
}

// level waits until the hub has what the edge has, and both say so.
func (e *site) level() {
	e.t.Helper()
	await(e.t, e.server, "the hub has all of "+e.name, 2*time.Minute, e.isLevel)
}

func (e *site) isLevel() error {
	up, err := e.uplink()
	if err != nil {
		return err
	}
	if up.State != link.StateConnected || up.Lacks > 0 || up.HubHas != up.Last {
		return fmt.Errorf("the edge says %+v", up)
	}
	seen, err := e.all.seen(e.name)
	if err != nil {
		return err
	}
	if seen.State != link.StateConnected || seen.Lacks > 0 || seen.Has != up.Last {
		return fmt.Errorf("the hub says %+v, the edge %+v", seen, up)
	}
	return nil
}

// down ends the edge's relays and stops the edge, so that the hub has all of it. It returns what the
// edge's journal has.
func (e *site) down() []entry {
	e.t.Helper()
	if e.fleet != nil {
		e.fleet.Finish()
	}
	if e.pushers != nil {
		e.pushers.stop()
	}
	for {
		e.level()
		stopProjected(e.t, e.server)
		list := ownEntries(e.t, e.name, e.dir)
		seen, err := e.all.seen(e.name)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(list) == 0 || seen.Has >= list[len(list)-1].seq {
			return list
		}
		// That its relays have gone was stored after the link had ended.
		e.up()
	}
}

// up starts the edge again.
func (e *site) up() {
	e.t.Helper()
	if err := e.server.Start(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

// stop ends everything when the hub has all of the edges. It returns what their journals have.
func (s *sites) stop() map[string][]entry {
	s.t.Helper()
	has := make(map[string][]entry)
	for _, e := range s.edges {
		has[e.name] = e.down()
		s.t.Logf("%s: %d entries", e.name, len(has[e.name]))
	}
	stopProjected(s.t, s.hub)
	return has
}

// start begins a fleet of relays at an edge. The relays of all edges have the same ids.
func (e *site) start(relays, stats int) {
	e.t.Helper()
	e.fleet = relaytest.NewFleet(relaytest.FleetOptions{Addr: e.server.RelayAddr, N: relays, Stats: stats, Reconnect: true})
	e.t.Cleanup(e.fleet.Stop)
	if err := e.fleet.Start(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}
