package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/internal/pulseproc"
)

const (
	// seriesRate is how many readings come each second, in events of seriesEvent readings, whatever
	// the number of series.
	seriesRate, seriesEvent = 10_000, 10
	// seriesRelays is the number of relays that send them. A relay may have at most 2,000 stats.
	seriesRelays, seriesRelaysMost = 100, 1000
	// seriesLasts is how long a measurement takes. Open windows are written once a minute, so a
	// shorter measurement might miss that write.
	seriesLasts, seriesLastsLong = time.Minute, 5 * time.Minute
)

// runSeries measures how the cost of a reading grows with the number of series, at the same rate of
// readings.
func (b *bench) runSeries(ctx context.Context) error {
	// The servers run at the same time, so that they share the conditions of the machine.
	if err := b.growSeries(ctx, 1000, 10_000, 100_000); err != nil || !b.long {
		return err
	}
	// The embedded engine takes up to a million series, and the aggregates need some of them.
	return b.growSeries(ctx, 990_000)
}

// growSeries measures one server for each number of series.
func (b *bench) growSeries(ctx context.Context, counts ...int) error {
	lasts := seriesLasts
	if b.long {
		lasts = seriesLastsLong
	}
	servers := make([]*pulseproc.Server, len(counts))
	crowds := make([]*crowd, len(counts))
	for i, series := range counts {
		relays := seriesRelays
		if series/relays > 1000 {
			relays = seriesRelaysMost
		}
		s, err := b.server(fmt.Sprintf("series-%d", series), time.Hour)
		if err != nil {
			return err
		}
		if err := s.Start(ctx); err != nil {
			return err
		}
		defer s.Kill()
		c, err := newCrowd(ctx, s.RelayAddr, relays, series, seriesEvent)
		if err != nil {
			return withLog(err, s)
		}
		defer c.close()
		if err := c.fill(ctx, s); err != nil {
			return err
		}
		servers[i], crowds[i] = s, c
	}
	sent, used := make([]float64, len(counts)), make([]usage, len(counts))
	group, measuring := errgroup.WithContext(ctx)
	for i, s := range servers {
		group.Go(func() (err error) {
			sent[i], used[i], err = crowds[i].measure(measuring, s, lasts)
			return withLog(err, s)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, series := range counts {
		rss, _, err := servers[i].RSS()
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("series: a reading of %d series, %d a second", series, seriesRate), true, "-",
			"%.1f µs of CPU, %.0f bytes written, %.1f allocations (%.0f readings/s, %d MiB)",
			used[i].cpu.Seconds()*1e6/sent[i], used[i].written/sent[i], used[i].mallocs/sent[i], sent[i]/used[i].took.Seconds(), rss>>20)
	}
	return nil
}
