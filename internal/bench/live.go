package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/projector/mist/misttest"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// 10,000 readings a second: 1,000 relays of ten stats, polled every second.
	liveRelays, liveStats = 1000, 10
	// The longest that a reading may take from its relay's line to a listener.
	liveMedian, liveTail = 20 * time.Millisecond, 100 * time.Millisecond
	// liveLasts is how long each measurement takes.
	liveLasts, liveLastsLong = 6 * time.Second, time.Minute
	// liveQuietLeast bounds the cost of doors that nobody uses: the cost of a server without doors,
	// divided by the cost of one with unused doors, is at least this.
	liveQuietLeast = 0.85
)

// A liveServer is a server with its relays. The value of each stat is the time of the relay's
// answer, in µs since began.
type liveServer struct {
	*pulseproc.Server
	fleet *relaytest.Fleet
	began time.Time
}

func (b *bench) liveServer(ctx context.Context, name string, args ...string) (*liveServer, error) {
	s, err := b.server(name, time.Second, args...)
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	l := &liveServer{Server: s, began: time.Now()}
	l.fleet = relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: liveRelays, Stats: liveStats,
		Value: func(int, int, uint64) float64 { return float64(time.Since(l.began).Microseconds()) }})
	err = l.fleet.Start(ctx)
	if err == nil {
		err = s.Await(ctx, func() (bool, error) { return l.fleet.Polls() >= 3*liveRelays, nil })
	}
	if err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

func (l *liveServer) end() {
	l.fleet.Stop()
	l.Kill()
}

// runLive measures the cost of each way out for live readings, with and without listeners, and the
// delay of readings on each.
func (b *bench) runLive(ctx context.Context) (err error) {
	tb := &tools{}
	defer tb.end(&err)
	mist := misttest.Listen(tb, "")
	mist.Refuse(true)
	address, release, err := freeport.Claim()
	if err != nil {
		return err
	}
	defer release()
	s, err := b.liveServer(ctx, "live", "--nats-listen-address", address, "--mist-address", mist.Addr())
	if err != nil {
		return err
	}
	defer s.end()
	defer func() { err = withLog(err, s.Server) }()
	doors := []door{
		{"mist", func(ctx context.Context, e *ear) error { return hearMist(ctx, e, mist) }},
		{"a NATS client", func(ctx context.Context, e *ear) error { return hearNATS(ctx, e, address) }},
		{"an SSE client", func(ctx context.Context, e *ear) error { return hearSSE(ctx, e, s.HTTPAddr) }},
	}
	if err := b.liveCosts(ctx, s, doors); err != nil {
		return err
	}
	ears, err := s.listen(ctx, doors, func() error { return pause(ctx, b.liveLasts()) })
	if err != nil {
		return err
	}
	for i, took := range ears {
		what := "live: from a relay's line to " + doors[i].name
		b.add(what+", the median", took.part(0.5) < liveMedian, "20 ms", "%.1f ms (of %d)", took.part(0.5).Seconds()*1e3, len(took))
		b.add(what+", p99", took.part(0.99) < liveTail, "100 ms", "%.1f ms (at most %.1f)", took.part(0.99).Seconds()*1e3, took[len(took)-1].Seconds()*1e3)
	}
	if n := s.fleet.Disconnects(); n > 0 {
		return fmt.Errorf("%d relays lost their connection: %w", n, s.fleet.Err())
	}
	return nil
}

func (b *bench) liveLasts() time.Duration {
	if b.long {
		return liveLastsLong
	}
	return liveLasts
}

// liveCosts compares the server with one that has no mist and no NATS, under the same load at the
// same time.
func (b *bench) liveCosts(ctx context.Context, s *liveServer, doors []door) error {
	shut, err := b.liveServer(ctx, "live-shut")
	if err != nil {
		return err
	}
	defer shut.end()
	costs := make([]float64, 2) // of a reading, µs of CPU
	measure := func() error {
		servers := []*liveServer{s, shut}
		before, sent := make([]usage, 2), make([]uint64, 2)
		for i, server := range servers {
			if before[i], err = takeUsage(server.Server); err != nil {
				return err
			}
			sent[i] = server.fleet.Sent()
		}
		if err := pause(ctx, b.liveLasts()); err != nil {
			return err
		}
		for i, server := range servers {
			used, err := before[i].since(server.Server)
			if err != nil {
				return err
			}
			costs[i] = used.cpu.Seconds() * 1e6 / float64(server.fleet.Sent()-sent[i])
		}
		return nil
	}
	if err := measure(); err != nil {
		return err
	}
	b.compare("live: nobody listens, CPU a reading", costs[1]/costs[0], liveQuietLeast, fmt.Sprintf("%.1f µs", costs[0]),
		fmt.Sprintf("%.1f µs with mist and NATS off", costs[1]))
	listening := func(name string, doors []door) error {
		if _, err := s.listen(ctx, doors, measure); err != nil {
			return err
		}
		b.add(fmt.Sprintf("live: %s, CPU a reading", name), true, "-", "%.1f µs, where it is %.1f with mist and NATS off", costs[0], costs[1])
		return nil
	}
	for i := range doors {
		if err := listening(doors[i].name+" gets everything", doors[i:i+1]); err != nil {
			return err
		}
	}
	return listening("all three get everything", doors)
}

// A door is a way out for live readings. open listens there until its context ends.
type door struct {
	name string
	open func(context.Context, *ear) error
}

// listen opens the doors while during runs. It returns the ages of the readings that came through
// each door meanwhile.
func (l *liveServer) listen(ctx context.Context, doors []door, during func() error) (took []timings, err error) {
	listening, stop := context.WithCancel(ctx)
	ended := make(chan error, len(doors))
	ears := make([]*ear, len(doors))
	for i, d := range doors {
		ears[i] = &ear{began: l.began, heard: make(chan struct{})}
		go func() { ended <- d.open(listening, ears[i]) }()
	}
	defer func() {
		stop()
		for range doors {
			err = errors.Join(err, <-ended)
		}
	}()
	for i, e := range ears {
		select {
		case <-e.heard:
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("nothing comes through to %s", doors[i].name)
		}
	}
	for _, e := range ears {
		e.note(true)
	}
	err = during()
	for i, e := range ears {
		e.note(false)
		took = append(took, e.sorted())
		if len(took[i]) == 0 {
			err = errors.Join(err, fmt.Errorf("nothing came through to %s", doors[i].name))
		}
	}
	return took, err
}
