package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/retry"
)

// maxRetry bounds the pause between two attempts to get the server back.
const maxRetry = 30 * time.Second

// retries are the pauses between attempts.
func (j *Journal) retries() retry.Backoff { return retry.Backoff{First: j.o.retryMin, Last: maxRetry} }

// broken handles a batch that was not acknowledged. A write error is final for a run of the server,
// and on a full disk it says nothing at all, so the run is ended and another started. What that
// finds on the disk tells which events of the batch are stored. Called by the committer, which goes
// on refusing meanwhile.
func (j *Journal) broken(run *embedded, batch []*request, cause error) {
	j.log.Error("writing the journal failed; its server is restarted", "err", cause, "events", len(batch), "after", run.last)
	j.mu.Lock()
	j.broke = cause
	j.blocked.Store(true)
	j.mu.Unlock()
	j.m.writable.Set(0)
	j.runs.set(nil)
	j.durable.forget() // the journal may end before what is in the tail
	j.failures++
	for _, r := range batch {
		r.run.fail(&Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnavailable, Err: cause}) // at once: others of its run may come next
	}
	j.wg.Add(1)
	go j.recover(run, append([]*request(nil), batch...), cause, j.failures)
}

func (j *Journal) recover(run *embedded, batch []*request, cause error, failures int) {
	defer j.wg.Done()
	run.blocks.close()
	run.stop()
	shown := run.last + uint64(len(batch))
	next := j.restart(run, &batch, cause)
	if next == nil {
		return
	}
	j.settle(batch, run.last, next, cause)
	j.skipShown(next, shown)
	if next.last < run.last {
		j.runs.rewind(next.last)
	}
	if err := j.letIn(next); err != nil {
		j.log.Error("outside clients cannot be let in until the journal is opened again", "err", err)
	}
	j.runs.set(next) // readers go on at once
	// The first failure after good batches is tried again at once, the next ones after growing
	// pauses.
	if failures > 1 && !retry.Sleep(j.ctx, j.retries().Pause(failures-1)) {
		return
	}
	j.log.Info("the journal's server was restarted; appending resumes", "after", next.last)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broke = nil
	j.blocked.Store(false)
}

// restart starts the server until that succeeds; nil means that the journal was closed. The batch
// is answered after the first attempt that fails, and emptied.
func (j *Journal) restart(run *embedded, batch *[]*request, cause error) *embedded {
	for attempt := 1; ; attempt++ {
		next, err := j.attempt(run, cause)
		if err == nil {
			j.m.restarts.Inc()
			return next
		}
		j.unknown(*batch, cause)
		*batch = nil
		if j.ctx.Err() == nil {
			j.log.Error("the journal's server could not be restarted", "err", err)
		}
		if !retry.Sleep(j.ctx, j.retries().Pause(attempt)) {
			return nil
		}
	}
}

func (j *Journal) attempt(run *embedded, cause error) (*embedded, error) {
	if err := j.rewrite(run, cause); err != nil {
		return nil, fmt.Errorf("writing the newest blocks again: %w", err)
	}
	report := OpenReport{}
	next, err := j.start(j.ctx, &Marker{Stream: run.identity, Seq: run.last}, &report)
	if err == nil && report.Gap != nil {
		j.log.Error("the journal lost acknowledged events", "err", report.Gap)
	}
	return next, err
}

// rewrite writes the blocks since the last good fsync again, whatever the cause: a writeback error
// goes to one fsync only, and that may have been the server's. It takes space; when that is what is
// missing, and no fsync of ours failed, what is there is left to the fsync at the start.
func (j *Journal) rewrite(run *embedded, cause error) error {
	b := blocks{dir: run.msgs, fsync: j.o.fsync}
	if list, err := listBlocks(b.dir); errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		b.dir = linksDir(j.o.Dir) // the server dropped the stream in an attempt before; start puts it back from there
	}
	err := b.rewrite(run.blocks.index)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // start says what is missing
	}
	var failed *syncError
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
	if full && !errors.As(cause, &failed) {
		return nil
	}
	return err
}

// settle answers a batch by what next found on the disk: the server stores in order and nobody else
// writes, so the events up to its last are stored, and the others are not.
func (j *Journal) settle(batch []*request, base uint64, next *embedded, cause error) {
	if errors.Is(cause, errMismatch) || !j.inOrder(batch, base, next) {
		j.unknown(batch, cause)
		return
	}
	for i, r := range batch {
		if seq := base + 1 + uint64(i); seq <= next.last {
			j.m.events.Inc()
			j.m.readings.Add(float64(r.readings))
			j.m.bytes.Add(float64(len(r.data)))
			j.reply(r, seq, nil)
			continue
		}
		j.fail([]*request{r}, &Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnavailable, Err: cause})
	}
}

// inOrder reports whether the events after base are the first ones of the batch. The server answers
// for the last event only. Had it refused one in the middle, the events after that one would have
// moved up, and the last event stored would be another.
func (j *Journal) inOrder(batch []*request, base uint64, next *embedded) bool {
	if next.last <= base || len(batch) == 0 {
		return true
	}
	n := next.last - base
	if n > uint64(len(batch)) {
		return false
	}
	ctx, cancel := context.WithTimeout(j.ctx, 10*time.Second)
	defer cancel()
	msg, err := next.stream.GetMsg(ctx, next.last)
	return err == nil && msg.Subject == batch[n-1].subject && bytes.Equal(msg.Data, batch[n-1].data)
}

// unknown answers a batch of which it cannot be said what is stored.
func (j *Journal) unknown(batch []*request, cause error) {
	j.fail(batch, &Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnknown, Err: cause})
}
