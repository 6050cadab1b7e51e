package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// hubEdges edges with hubRelays relays each are on one hub.
	hubEdges, hubRelays, hubStats = 50, 20, 10
	// hubBacklog is how many events an edge has to hand over when its link is back.
	hubBacklog = 300_000
	// hubLiveRelays are those of each of the two edges that go on meanwhile, polled every second.
	hubLiveRelays = 100
	// hubCatchUp is in events a second.
	hubCatchUp = 15_000
)

// runHub measures a link from both ends: what it costs the edge's journal, how fast a hub catches up,
// and what a hub with many edges costs.
func (b *bench) runHub(ctx context.Context) error {
	return errors.Join(b.runUplink(ctx), b.runCatchUp(ctx), b.runManyEdges(ctx))
}

// A benchHub is a hub in a process of its own.
type benchHub struct {
	*pulseproc.Server
	address string
	trusted *tls.Config
	release func() // of the address
}

func edgeName(i int) string  { return fmt.Sprintf("edge-%02d", i) }
func edgeToken(i int) string { return "token-of-" + edgeName(i) }

// startHub starts a hub that knows hubEdges edges.
func (b *bench) startHub(ctx context.Context, name string, args ...string) (_ *benchHub, err error) {
	h := &benchHub{}
	if h.address, h.release, err = freeport.Claim(); err != nil {
		return nil, err
	}
	cert, key := filepath.Join(b.dir, name+".crt"), filepath.Join(b.dir, name+".key")
	if err := selfsigned.Make(cert, key, "hub", h.address); err != nil {
		return nil, err
	}
	if h.trusted, err = command.ClientTLS(true, cert); err != nil {
		return nil, err
	}
	var tokens []string
	for i := range hubEdges {
		tokens = append(tokens, edgeName(i)+"="+edgeToken(i))
	}
	h.Server, err = b.server(name, b.poll, append([]string{"--hub-listen-address", h.address, "--edges", strings.Join(tokens, ","), "--tls-cert", cert, "--tls-key", key}, args...)...)
	if err != nil {
		return nil, err
	}
	return h, h.Start(ctx)
}

// end kills the hub.
func (h *benchHub) end() {
	h.Kill()
	h.release()
}

// connect begins the link of the edge with a number.
func (h *benchHub) connect(e *benchEdge, i int) (err error) {
	e.uplink, err = link.NewUplink(link.UplinkOptions{Address: h.address, Edge: edgeName(i), Token: edgeToken(i), TLS: h.trusted,
		Journal: e.journal, Release: "bench", Registerer: e.metrics})
	if err != nil {
		return err
	}
	e.uplink.Start()
	return nil
}

// runUplink compares the speed of an edge's journal without a link, with one, and with one that is
// down. The three take turns, and the fastest turn of each counts. The hub keeps nothing, because hubs are
// elsewhere.
func (b *bench) runUplink(ctx context.Context) error {
	turns, lasts := 6, 3*time.Second
	if b.long {
		turns, lasts = 6, 10*time.Second
	}
	var off, on, down speed
	for turn := range turns {
		for _, way := range []struct {
			name string
			best *speed
		}{{"off", &off}, {"on", &on}, {"down", &down}} {
			v, err := b.uplinkTurn(ctx, fmt.Sprintf("uplink-%d-%s", turn, way.name), way.name, lasts)
			if err != nil {
				return err
			}
			*way.best = way.best.faster(v)
		}
	}
	limit := "without a link: " + off.String()
	b.compare("hub: an edge's journal, relays over TCP to fsynced, with the link up", on.rate/off.rate, 0.95, on.String(), limit)
	b.compare("hub: an edge's journal, relays over TCP to fsynced, with the link down", down.rate/off.rate, 0.95, down.String(), limit)
	return nil
}

func (b *bench) uplinkTurn(ctx context.Context, name, way string, lasts time.Duration) (v speed, err error) {
	h, err := b.startSink(ctx, name+"-hub")
	if err != nil {
		return v, err
	}
	defer h.end()
	if way != "on" {
		h.end() // so that the machine has nothing else to do
	}
	dir := filepath.Join(b.dir, name)
	var one edges
	defer func() {
		err = errors.Join(err, one.close(), os.RemoveAll(dir))
	}()
	e, err := one.open(ctx, dir, time.Hour)
	if err != nil {
		return v, err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	if err := readAlong(reading, e.journal); err != nil {
		return v, err
	}
	if way != "off" {
		if err := h.connect(e, 0); err != nil {
			return v, err
		}
	}
	return e.push(ctx, sampleEvent(), lasts)
}

// readAlong reads a journal as the projections of every Pulse do, until ctx ends.
func readAlong(ctx context.Context, j *journal.Journal) error {
	reader, err := j.ReadFrom(j.LastSeq() + 1)
	if err != nil {
		return err
	}
	go func() {
		defer func() { _ = reader.Close() }() // it never fails
		for err == nil {
			_, err = reader.Read(ctx, 1000)
		}
	}()
	return nil
}

// giveWay makes a process run only when nothing else wants to. Linux has a priority for each thread, and
// new threads inherit it.
func giveWay(pid int) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err == nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A benchEdge is an edge of a hub: relays, the relay listener, the journal and the link, without any
// projection.
type benchEdge struct {
	*path
	uplink *link.Uplink     // nil before connect
	fleet  *relaytest.Fleet // nil without
}

// An edges is a list of them.
type edges []*benchEdge

// open adds an edge, whose relays are polled.
func (l *edges) open(ctx context.Context, dir string, poll time.Duration) (*benchEdge, error) {
	p, err := openPath(ctx, filepath.Join(dir, edgeName(len(*l))), poll)
	if err != nil {
		return nil, err
	}
	e := &benchEdge{path: p}
	*l = append(*l, e)
	return e, nil
}

// polled begins the relays of an edge.
func (e *benchEdge) polled(ctx context.Context, relays int) error {
	e.fleet = relaytest.NewFleet(relaytest.FleetOptions{Addr: e.ingest.Addr().String(), N: relays, Stats: hubStats})
	return e.fleet.Start(ctx)
}

func (l *edges) close() (err error) {
	for _, e := range *l {
		if e.fleet != nil {
			e.fleet.Stop()
		}
		if e.uplink != nil {
			err = errors.Join(err, e.uplink.Stop(context.Background()))
		}
		err = errors.Join(err, e.path.close())
	}
	return err
}

// polls returns how many polls the edges made, and how many were skipped or not answered.
func (l *edges) polls() (made, late float64) {
	for _, e := range *l {
		m := e.gather()
		made += m["pulse_ingest_polls_total"]
		late += m["pulse_ingest_polls_skipped_total"] + m["pulse_ingest_polls_unanswered_total"]
	}
	return made, late
}

// lack returns how many events the hub lacks, and an error if a link is not there.
func (l *edges) lack() (n uint64, err error) {
	for _, e := range *l {
		s := e.uplink.Status()
		if s.State == link.StateRefused {
			err = errors.Join(err, fmt.Errorf("the hub refuses %s: %s", s.Edge, s.Error))
		}
		if s.HubHas == 0 {
			n++
		}
		n += s.Lacks
	}
	return n, err
}

// runCatchUp measures how fast a hub takes what an edge has to hand over when its link is back, while
// two others go on.
func (b *bench) runCatchUp(ctx context.Context) (err error) {
	h, err := b.startHub(ctx, "catch-up")
	if err != nil {
		return err
	}
	defer h.end()
	defer func() { err = withLog(err, h.Server) }()
	var all edges
	defer func() { err = errors.Join(err, all.close()) }()
	for i := range 3 {
		e, err := all.open(ctx, filepath.Join(b.dir, "catch-up-edges"), time.Second)
		if err != nil {
			return err
		}
		if i == 0 {
			err = backlog(ctx, e.journal, hubBacklog)
		} else if err = h.connect(e, i); err == nil {
			err = e.polled(ctx, hubLiveRelays)
		}
		if err != nil {
			return err
		}
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	behind, live := all[0], all[1:]
	before, err := takeUsage(h.Server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.connect(behind, 0); err != nil {
		return err
	}
	var most uint64 // that the hub lacked of a live edge
	err = h.Await(ctx, func() (bool, error) {
		n, err := live.lack()
		most = max(most, n)
		return behind.uplink.Status().HubHas >= hubBacklog, err
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	used, err := before.since(h.Server)
	if err != nil {
		return err
	}
	rate := hubBacklog / took.Seconds()
	what := fmt.Sprintf("hub: %d events of %d readings from an edge whose link is back, beside two live edges of %d relays", hubBacklog, len(sampleEvent().Collectors[0].Stats)+6, hubLiveRelays)
	b.add(what, rate >= hubCatchUp, fmt.Sprintf("%d events/s", hubCatchUp), "%.0f events/s (%.1f s)", rate, took.Seconds())
	b.add("hub: processors busy meanwhile", true, "-", "%s", used)
	_, late := live.polls()
	b.add("hub: polls skipped or unanswered at the live edges meanwhile", late == 0, "0", "%.0f; the hub lacked %d of their events at most", late, most)
	return nil
}

// runManyEdges measures what many edges cost a hub.
func (b *bench) runManyEdges(ctx context.Context) (err error) {
	lasts := 30 * time.Second
	if b.long {
		lasts = 2 * time.Minute
	}
	h, err := b.startHub(ctx, "many")
	if err != nil {
		return err
	}
	defer h.end()
	defer func() { err = withLog(err, h.Server) }()
	idle, _, err := h.RSS()
	if err != nil {
		return err
	}
	var all edges
	defer func() { err = errors.Join(err, all.close()) }()
	for i := range hubEdges {
		e, err := all.open(ctx, filepath.Join(b.dir, "many-edges"), b.poll)
		if err == nil {
			err = h.connect(e, i)
		}
		if err == nil {
			err = e.polled(ctx, hubRelays)
		}
		if err != nil {
			return err
		}
	}
	if err := pause(ctx, 2*b.poll); err != nil { // the first poll of a relay comes at once
		return err
	}
	madeBefore, _ := all.polls()
	before, err := takeUsage(h.Server)
	if err != nil {
		return err
	}
	if err := pause(ctx, lasts); err != nil {
		return err
	}
	used, err := before.since(h.Server)
	if err != nil {
		return err
	}
	made, late := all.polls()
	rss, peak, err := h.RSS()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("hub: %d edges of %d relays x %d every %s: ", hubEdges, hubRelays, hubStats, b.poll)
	expected := hubEdges * hubRelays * used.took.Seconds() / b.poll.Seconds()
	b.add(what+"polls, of those due", made-madeBefore > 0.98*expected, "0.98", "%.3f (%.0f)", (made-madeBefore)/expected, made-madeBefore)
	b.add(what+"polls skipped or unanswered", late == 0, "0", "%.0f", late)
	b.add(what+"the hub's processor time", true, "-", "%.1f %% of a core, %.1f µs a reading", 100*used.cpu.Seconds()/used.took.Seconds(), used.cpu.Seconds()*1e6/((made-madeBefore)*hubStats))
	b.add(what+"the hub's RSS", true, "-", "%d MiB, %d MiB of it idle, peak %d MiB", rss>>20, idle>>20, peak>>20)
	began := time.Now()
	for i := range all {
		all[i].fleet.Finish()
	}
	var lacks uint64
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := h.Await(wait, func() (bool, error) { lacks, err = all.lack(); return lacks == 0, err }); err != nil {
		return fmt.Errorf("the hub lacks %d events: %w", lacks, err)
	}
	b.add(what+"until the hub has all after the last poll", time.Since(began) < 5*time.Second, "5 s", "%.2f s", time.Since(began).Seconds())
	return nil
}

// backlog appends events that a hub lacks.
func backlog(ctx context.Context, j *journal.Journal, events int) error {
	const batch = 1000
	end := time.Now().Add(-time.Minute)
	for n := 0; n < events; n += batch {
		records := make([]journal.Record, batch)
		for i := range records {
			e := *sampleEvent()
			e.Relay = relaytest.FleetID(i)
			e.Time = end.Add(-time.Duration(events-n-i) * time.Millisecond).UnixNano()
			records[i].Event = &e
		}
		if _, err := j.AppendInOrder(ctx, records); err != nil {
			return err
		}
	}
	return nil
}
