package journal

import (
	"errors"
	"fmt"
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
	j.blocked.Store(true)
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
	next := j.restart(run, &batch, cause)
	if next == nil {
		return
	}
	j.settle(batch, run.last, next.last, cause)
	j.runs.set(next) // readers go on at once
	// The first failure after good batches is tried again at once, the next ones after growing pauses.
	if failures > 1 && !j.pause(j.o.retryMin<<min(failures-2, 10)) {
		return
	}
	j.log.Info("the journal's server was restarted; appending resumes", "after", next.last)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broke = nil
	j.blocked.Store(false)
}

// restart starts the server until that succeeds; nil means that the journal was closed. The batch is answered
// after the first attempt that fails, and emptied.
func (j *Journal) restart(run *embedded, batch *[]*request, cause error) *embedded {
	var failed *syncError
	rewrite := errors.As(cause, &failed)
	for attempt := 0; ; attempt++ {
		next, err := j.attempt(run, rewrite)
		if err == nil {
			j.m.restarts.Inc()
			return next
		}
		j.unknown(*batch, cause)
		*batch = nil
		if j.ctx.Err() == nil {
			j.log.Error("the journal's server could not be restarted", "err", err)
		}
		if !j.pause(j.o.retryMin << min(attempt, 10)) {
			return nil
		}
	}
}

func (j *Journal) attempt(run *embedded, rewrite bool) (*embedded, error) {
	if rewrite {
		b := blocks{dir: run.msgs, fsync: j.o.fsync}
		if err := b.rewrite(run.blocks.index); err != nil {
			return nil, fmt.Errorf("writing the newest blocks again: %w", err)
		}
	}
	report := OpenReport{}
	next, err := j.start(j.ctx, &Marker{Stream: run.identity, Seq: run.last}, &report)
	if err == nil && report.Gap != nil {
		j.log.Error("the journal lost acknowledged events", "err", report.Gap)
	}
	return next, err
}

// pause waits, at most maxRetry; false means that the journal was closed.
func (j *Journal) pause(d time.Duration) bool {
	timer := time.NewTimer(min(d, maxRetry))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-j.ctx.Done():
		return false
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
