package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
)

// A past is a journal in this process with the events of a fill. Projections are measured with it.
type past struct {
	dir      string
	state    *migrations.State
	journal  *journal.Journal
	readings int
}

// openPast fills a journal in the bench's directory.
func (b *bench) openPast(ctx context.Context, name string, f *fill) (*past, error) {
	p := &past{dir: filepath.Join(b.dir, name), readings: f.events * f.stats}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.state, err = migrations.Open(p.dir, migrations.Options{}); err != nil {
		return nil, err
	}
	p.journal, err = journal.Open(ctx, journal.Options{Dir: filepath.Join(p.dir, "journal"), Marker: journal.BoltMarker(p.state.DB)})
	if err != nil {
		return nil, errors.Join(err, p.state.Close())
	}
	if err := f.append(ctx, p.journal, 0, f.events); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// close closes the journal and deletes it.
func (p *past) close(ctx context.Context) error {
	return errors.Join(p.journal.Close(ctx), p.state.Close(), os.RemoveAll(p.dir))
}

// read reads and decodes the whole journal, and returns how long that took.
func (p *past) read(ctx context.Context, visit func([]journal.Record)) (time.Duration, error) {
	began := time.Now()
	reader, err := p.journal.ReadFrom(1)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	for left := p.readings; left > 0; {
		records, err := reader.Read(ctx, 1000) // as a runner does
		if err != nil {
			return 0, err
		}
		for i := range records {
			if e := records[i].Event; e != nil {
				left -= e.Readings()
			}
		}
		if visit != nil {
			visit(records)
		}
	}
	return time.Since(began), nil
}

// project runs a projection over the whole journal, as a runner does that has to catch up. It
// returns the time until all is written.
func (p *past) project(ctx context.Context, projection projector.Projection) (time.Duration, error) {
	runner, err := projector.NewRunner(projector.RunnerOptions{
		Projection: projection, Journal: projector.FromJournal(p.journal), Start: projector.FromTime(time.Time{}),
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := runner.Start(ctx); err != nil {
		return 0, err
	}
	if err := catchUp(ctx, runner); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if s := runner.Status(); s.Rejected > 0 || s.Lost > 0 {
		return 0, fmt.Errorf("%s got to record %d, %d rejected, %d lost", s.Name, s.Applied, s.Rejected, s.Lost)
	}
	return took, nil
}

// catchUp waits until a runner has applied the last event of the journal, and drains the runner.
// The wait comes first because a drain does not read ahead, as a runner does that has to catch up.
func catchUp(ctx context.Context, r *projector.Runner) error {
	for s := r.Status(); s.Applied == 0 || s.Lag > 0; s = r.Status() {
		if ctx.Err() != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return r.Drain(ctx)
}

// quickest returns the shortest time of each way, because disturbances only ever make a measurement
// slower. The ways are measured in turn, so that a slow minute of the machine affects all of them.
func quickest(rounds int, ways ...func() (time.Duration, error)) ([]time.Duration, error) {
	best := make([]time.Duration, len(ways))
	for range rounds {
		for i, way := range ways {
			took, err := way()
			if err != nil {
				return nil, err
			}
			if best[i] == 0 || took < best[i] {
				best[i] = took
			}
		}
	}
	return best, nil
}

// each returns the time for one of n, as text.
func each(took time.Duration, n int) string {
	return fmt.Sprintf("%.2f µs", took.Seconds()*1e6/float64(n))
}
