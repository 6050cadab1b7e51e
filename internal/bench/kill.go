package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// runKill kills the server in the middle of the load. It measures how soon the next server accepts
// relays, polls, and has all its relays again.
func (b *bench) runKill(ctx context.Context) error {
	s, err := b.server("kill", b.poll)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: b.relays, Stats: b.stats, Reconnect: true})
	defer fleet.Stop()
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	ours, err := relay.NewRelay(s.RelayAddr, "our relay library")
	if err != nil {
		return err
	}
	defer ours.Close()
	enough := fleet.Polls() + uint64(2*b.relays)
	if err := s.Await(ctx, func() (bool, error) { return fleet.Polls() >= enough, nil }); err != nil {
		return err
	}
	s.Kill()
	polls := fleet.Polls()
	began := time.Now()
	if err := s.Launch(); err != nil {
		return err
	}
	if err := s.Await(ctx, func() (bool, error) { return s.Welcomes() == nil, nil }); err != nil {
		return err
	}
	accepting := time.Since(began)
	b.add("kill -9 to accepting again", accepting < 3*time.Second, "3 s", "%.2f s", accepting.Seconds())
	if err := s.Await(ctx, func() (bool, error) { return ours.State().Connects > 1, nil }); err != nil {
		return err
	}
	back := time.Since(began) - accepting
	b.add("accepting again to our relay library back", back < time.Second, "1 s", "%.2f s", back.Seconds())
	if err := s.Await(ctx, func() (bool, error) { return fleet.Polls() > polls, nil }); err != nil {
		return err
	}
	polled := time.Since(began)
	b.add("kill -9 to the first poll", polled < 3*time.Second, "3 s", "%.2f s", polled.Seconds())
	if err := s.Await(ctx, func() (bool, error) { return fleet.Connected() == b.relays, nil }); err != nil {
		return err
	}
	b.add(fmt.Sprintf("kill -9 to all %d relays back", b.relays), time.Since(began) < 30*time.Second, "30 s", "%.2f s", time.Since(began).Seconds())
	return nil
}
