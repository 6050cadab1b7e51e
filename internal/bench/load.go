package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

func (b *bench) server(name string) (*pulseproc.Server, error) {
	return pulseproc.New(pulseproc.Options{
		Binary: b.binary, DataDir: filepath.Join(b.dir, name),
		Args: []string{"--influx-address", "embedded", "-p", strconv.Itoa(int(b.poll.Seconds())), "-l", "WARN"},
	})
}

// runLoad connects all relays, polls them for a while and compares what they
// sent with what is in InfluxDB.
func (b *bench) runLoad(ctx context.Context) error {
	s, err := b.server("load")
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	idleRSS, _, err := s.RSS()
	if err != nil {
		return err
	}

	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: b.relays, Stats: b.stats})
	defer fleet.Stop()
	began := time.Now()
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	connecting := time.Since(began)
	b.add(fmt.Sprintf("%d relays connect", b.relays), connecting < 30*time.Second, "30 s", "%.1f s", connecting.Seconds())

	began = time.Now()
	cpuBefore, err := s.CPU()
	if err != nil {
		return err
	}
	sentBefore, pollsBefore := fleet.Sent(), fleet.Polls()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.load):
	}
	cpu, err := s.CPU()
	if err != nil {
		return err
	}
	polls, took := fleet.Polls()-pollsBefore, time.Since(began)
	sentInLoad := fleet.Sent() - sentBefore
	expected := float64(b.relays) * took.Seconds() / b.poll.Seconds()
	b.add("polls answered, of those due", float64(polls) > 0.98*expected, "0.98", "%.3f (%d)", float64(polls)/expected, polls)
	b.add("CPU per reading, all projections on", true, "-", "%.2f µs", (cpu-cpuBefore).Seconds()*1e6/float64(sentInLoad))
	rss, peak, err := s.RSS()
	if err != nil {
		return err
	}
	b.add("RSS growth per polled relay", true, "-", "%.1f KiB (%d MiB in all, peak %d MiB)",
		float64(rss-idleRSS)/float64(b.relays)/1024, rss>>20, peak>>20)
	skipped, err := s.Metric("pulse_ingest_polls_skipped_total")
	if err != nil {
		return err
	}
	b.add("polls skipped", skipped == 0, "0", "%.0f", skipped)
	if n := fleet.Disconnects(); n > 0 {
		return fmt.Errorf("%d relays lost their connection: %w", n, fleet.Err())
	}
	fleet.Stop()
	return b.compareCounts(ctx, s, fleet.Sent())
}

// compareCounts waits until the projections have caught up and compares the
// readings sent with those that the aggregates count.
func (b *bench) compareCounts(ctx context.Context, s *pulseproc.Server, sent uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	began := time.Now()
	var stored uint64
	err := s.Await(ctx, func() (bool, error) {
		stored = 0
		for stat := range b.stats {
			n, err := s.Count(relaytest.FleetStat(stat))
			if err != nil {
				return false, nil // not there yet
			}
			stored += n
		}
		if stored < sent {
			time.Sleep(500 * time.Millisecond)
		}
		return stored >= sent, nil
	})
	if err != nil {
		b.add("readings in InfluxDB, of those sent", false, "equal", "%d of %d", stored, sent)
		return nil
	}
	b.add("readings in InfluxDB, of those sent", stored == sent, "equal", "%d of %d, %.0f s after the last", stored, sent, time.Since(began).Seconds())
	raw, err := s.Metric("pulse_projector_points_written_total", `projection="influx_raw"`)
	if err != nil {
		return err
	}
	b.add("raw points written", uint64(raw) >= sent, "readings sent", "%.0f", raw)
	return nil
}
