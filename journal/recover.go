package journal

import (
	"errors"
	"time"
)

// maxRetry bounds the pause between two attempts to get the server back.
const maxRetry = 30 * time.Second

// broken handles a batch that was not acknowledged. A write error is final for a run of the server, and on a
// full disk it says nothing at all, so the run is ended and another started. What that finds on the
// disk tells which events of the batch are stored. Called by the committer, which goes on refusing meanwhile.
func (j *Journal) broken(run *embedded, batch []*request, cause error) {
	j.log.Error("writing the journal failed; its server is restarted", "err", cause, "events", len(batch), "after", run.last)
	j.mu.Lock()
	j.broke = cause
	j.mu.Unlock()
	j.m.writable.Set(0)
	j.runs.set(nil)
	j.failures++
	j.wg.Add(1)
	go j.recover(run, append([]*request(nil), batch...), cause, j.failures)
}

func (j *Journal) recover(run *embedded, batch []*request, cause error, failures int) {
	defer j.wg.Done()
	run.blocks.close()
	run.stop()
	var failed *syncError
	rewrite := errors.As(cause, &failed)
	base, from := run.last, run.blocks.index
	pause := j.o.retryMin
	// The first failure after good batches is met at once, the next ones with growing pauses.
	for i := 1; i < failures && pause < maxRetry; i++ {
		pause *= 2
	}
	wait := failures > 1
	for {
		if wait {
			j.unknown(batch, cause)
			batch = nil
			select {
			case <-time.After(min(pause, maxRetry)):
			case <-j.ctx.Done():
				return
			}
			pause *= 2
		}
		wait = true
		if j.space.check(0) != nil {
			continue
		}
		if rewrite {
			b := blocks{dir: run.msgs, fsync: j.o.fsync}
			if err := b.rewrite(from); err != nil {
				j.log.Warn("writing the newest blocks again failed", "err", err)
				continue
			}
		}
		report := OpenReport{}
		next, err := j.start(j.ctx, &Marker{Stream: run.identity, Seq: base}, &report)
		if err != nil {
			if j.ctx.Err() != nil {
				j.unknown(batch, cause)
				return
			}
			j.log.Error("the journal's server could not be restarted", "err", err)
			continue
		}
		j.m.restarts.Inc()
		if report.Gap != nil {
			j.log.Error("the journal lost acknowledged events", "err", report.Gap)
		}
		j.settle(batch, base, next.last, cause)
		j.log.Info("the journal's server was restarted; appending resumed", "after", next.last)
		j.mu.Lock()
		j.broke = nil
		j.mu.Unlock()
		j.runs.set(next)
		return
	}
}

// settle answers a batch by what was found on the disk: the server stores in order and nobody else writes, so
// the events up to last are stored, and the others are not.
func (j *Journal) settle(batch []*request, base, last uint64, cause error) {
	if errors.Is(cause, errMismatch) {
		j.unknown(batch, cause)
		return
	}
	for i, r := range batch {
		if seq := base + 1 + uint64(i); seq <= last {
			j.m.events.Inc()
			j.m.readings.Add(float64(r.readings))
			j.m.bytes.Add(float64(len(r.data)))
			j.reply(r, seq, nil)
			continue
		}
		j.fail([]*request{r}, &Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnavailable, Err: cause})
	}
}

// unknown answers a batch of which it cannot be said what is stored.
func (j *Journal) unknown(batch []*request, cause error) {
	j.fail(batch, &Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnknown, Err: cause})
}
