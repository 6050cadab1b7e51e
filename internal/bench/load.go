package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// server returns a server with the embedded engine and the additional arguments args.
func (b *bench) server(name string, poll time.Duration, args ...string) (*pulseproc.Server, error) {
	return pulseproc.New(pulseproc.Options{
		Binary: b.binary, DataDir: filepath.Join(b.dir, name),
		Args: append([]string{"--influx-address", "embedded", "-p", strconv.Itoa(int(poll.Seconds())), "-l", "WARN"}, args...),
	})
}

// runLoad applies the load that the flags describe.
func (b *bench) runLoad(ctx context.Context) error {
	return b.apply(ctx, &load{relays: b.relays, stats: b.stats, poll: b.poll, lasts: b.load})
}

// runWide applies the two heaviest loads of the budgets: every relay is polled every second.
func (b *bench) runWide(ctx context.Context) error {
	lasts := 15 * time.Second
	if b.long {
		lasts = 2 * time.Minute
	}
	for _, l := range []*load{{relays: 2000, stats: 100}, {relays: 10_000, stats: 10}} {
		l.poll, l.lasts = time.Second, lasts
		if err := b.apply(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// A load is a fleet of relays that is polled for a while.
type load struct {
	relays, stats int
	poll, lasts   time.Duration
}

func (l *load) String() string {
	return fmt.Sprintf("%d relays x %d every %s", l.relays, l.stats, l.poll)
}

// A loadFleet is a fleet that can be asked to fall silent before it hangs up. Answers that a relay
// sent just before it hung up could be lost on their way.
type loadFleet struct {
	*relaytest.Fleet
	relays int
	ending atomic.Bool
	waits  atomic.Int64 // relays that have sent their last answer
	ended  chan struct{}
}

func (l *load) fleet(address string) *loadFleet {
	f := &loadFleet{relays: l.relays, ended: make(chan struct{})}
	f.Fleet = relaytest.NewFleet(relaytest.FleetOptions{Addr: address, N: l.relays, Stats: l.stats, OnPoll: func(int, uint64) {
		if f.ending.Load() {
			f.waits.Add(1)
			<-f.ended
		}
	}})
	return f
}

// silent asks all relays to answer one more poll and then no more. It reports whether all have done
// so.
func (f *loadFleet) silent() bool {
	f.ending.Store(true)
	return f.waits.Load() == int64(f.relays)
}

func (f *loadFleet) Stop() {
	close(f.ended)
	f.Fleet.Stop()
}

// apply connects all relays and polls them for a while. It compares the readings that they sent
// with those in the journal and in InfluxDB.
func (b *bench) apply(ctx context.Context, l *load) error {
	add := func(what string, ok bool, limit, figure string, args ...any) {
		b.add(l.String()+": "+what, ok, limit, figure, args...)
	}
	s, err := b.server(l.String(), l.poll)
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
	idle, err := takeUsage(s)
	if err != nil {
		return err
	}

	fleet := l.fleet(s.RelayAddr)
	defer fleet.Stop()
	began := time.Now()
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	connecting := time.Since(began)
	add("all connect", connecting < 30*time.Second, "30 s", "%.1f s", connecting.Seconds())

	before, err := takeUsage(s)
	if err != nil {
		return fmt.Errorf("%w; the server's log ends with:\n%s", err, s.Log())
	}
	pollsBefore := fleet.Polls()
	if err := pause(ctx, l.lasts); err != nil {
		return err
	}
	used, err := before.since(s)
	if err != nil {
		return fmt.Errorf("%w; the server's log ends with:\n%s", err, s.Log())
	}
	polls := fleet.Polls() - pollsBefore
	expected := float64(l.relays) * used.took.Seconds() / l.poll.Seconds()
	add("polls answered, of those due", float64(polls) > 0.98*expected, "0.98", "%.3f (%d)", float64(polls)/expected, polls)
	add("processors busy meanwhile", true, "-", "%s", used)
	rss, peak, err := s.RSS()
	if err != nil {
		return err
	}
	add("RSS growth per polled relay", true, "-", "%.1f KiB (%d MiB in all, peak %d MiB)",
		float64(rss-idleRSS)/float64(l.relays)/1024, rss>>20, peak>>20)
	skipped, err := s.Metric("pulse_ingest_polls_skipped_total")
	if err != nil {
		return err
	}
	unanswered, err := s.Metric("pulse_ingest_polls_unanswered_total")
	if err != nil {
		return err
	}
	add("polls skipped or unanswered", skipped+unanswered == 0, "0", "%.0f", skipped+unanswered)
	if n := fleet.Disconnects(); n > 0 {
		return fmt.Errorf("%d relays lost their connection: %w", n, fleet.Err())
	}
	if err := s.Await(ctx, func() (bool, error) { return fleet.silent(), nil }); err != nil {
		return err
	}
	if err := l.compareCounts(ctx, s, fleet.Sent(), add); err != nil {
		return err
	}
	if used, err = idle.since(s); err != nil {
		return err
	}
	add("CPU of a reading until it is in InfluxDB", true, "-", "%.2f µs", used.cpu.Seconds()*1e6/float64(fleet.Sent()))
	return nil
}

// compareCounts compares the number of readings sent with the number in the journal. When the
// projections have caught up, it also compares it with the number in the aggregates.
func (l *load) compareCounts(ctx context.Context, s *pulseproc.Server, sent uint64, add func(what string, ok bool, limit, figure string, args ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	began := time.Now()
	var journaled float64
	err := s.Await(ctx, func() (bool, error) {
		lost, err1 := s.Metric("pulse_ingest_readings_lost_total")
		taken, err2 := s.Metric("pulse_ingest_readings_total")
		journaled = taken
		return uint64(taken+lost) >= sent || time.Since(began) > time.Minute, errors.Join(err1, err2)
	})
	if err != nil {
		return err
	}
	add("readings in the journal, of those sent", uint64(journaled) == sent, "equal", "%.0f of %d", journaled, sent)
	var stored uint64
	err = s.Await(ctx, func() (bool, error) {
		stored = 0
		for stat := range l.stats {
			n, err := s.Count(relaytest.FleetStat(stat))
			if err != nil || n < sent/uint64(l.stats) { // every answer has all stats
				time.Sleep(500 * time.Millisecond)
				return false, nil // not written yet
			}
			stored += n
		}
		return stored >= sent, nil
	})
	if err != nil {
		add("readings in InfluxDB, of those sent", false, "equal", "%d of %d", stored, sent)
		return nil
	}
	add("readings in InfluxDB, of those sent", stored == sent, "equal", "%d of %d, %.0f s after the last", stored, sent, time.Since(began).Seconds())
	raw, err := s.Metric("pulse_projector_points_written_total", `projection="influx_raw"`)
	if err != nil {
		return err
	}
	add("raw points written", uint64(raw) >= sent, "readings sent", "%.0f", raw)
	return nil
}
