package main

import (
	"context"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// runGrowth measures what a reading costs the server on its way from the relay's line to InfluxDB,
// and how the cost grows with the number of relays. With few relays, fewer readings share an fsync,
// and the server's own readings are a larger part.
func (b *bench) runGrowth(ctx context.Context) error {
	lasts := 15 * time.Second
	fleets := []load{
		{relays: 100, stats: 10, poll: time.Second}, {relays: 1000, stats: 10, poll: time.Second}, {relays: 10_000, stats: 10, poll: 5 * time.Second},
	}
	if b.long {
		lasts = 2 * time.Minute
		fleets = append(fleets, load{relays: 10_000, stats: 100, poll: time.Minute})
	}
	for _, l := range fleets {
		l.lasts = lasts
		if err := b.grow(ctx, &l); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) grow(ctx context.Context, l *load) error {
	s, err := b.server("growth of "+l.String(), l.poll)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: l.relays, Stats: l.stats})
	defer fleet.Stop()
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	// A series is created only once, so its creation is not part of the cost of a reading.
	if err := s.Await(ctx, func() (bool, error) { return fleet.Polls() >= uint64(3*l.relays), nil }); err != nil {
		return err
	}
	before, err := takeUsage(s)
	if err != nil {
		return err
	}
	sent := fleet.Sent()
	if err := pause(ctx, l.lasts); err != nil {
		return err
	}
	used, err := before.since(s)
	if err != nil {
		return err
	}
	n := float64(fleet.Sent() - sent)
	b.add("growth: a reading of "+l.String(), true, "-",
		"%.1f µs of CPU, %.0f bytes written, %.1f allocations (%.0f readings/s)",
		used.cpu.Seconds()*1e6/n, used.written/n, used.mallocs/n, n/used.took.Seconds())
	return nil
}
