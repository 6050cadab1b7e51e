package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nanopack/pulse/journal/codec"
)

// A number that an outside client saw is never another event's, so that a number is all that a
// consumer needs to know what it has. The server gives clients an event before it is on the disk; a
// power cut may take the event back. So while clients are let in a file says how many events may
// have been shown and not synced, and a start that finds the file, because the run before did not
// end cleanly, leaves out that many numbers.

const (
	// subjectSkipped is none that a relay's id is encoded as.
	subjectSkipped = codec.RelaysSubject + "%"
	// maxUnsynced is how many events may be written without an fsync, whatever Options.Sync says.
	maxUnsynced = 10_000
	// maxSkipped bounds how many numbers a start leaves out. Only a journal that lost its end to
	// damage comes near it.
	maxSkipped = 100_000
)

// shownPath is the file that is there while outside clients are let in.
func shownPath(dir string) string { return filepath.Join(dir, "shown") }

// shown is how many events beyond the last one on the disk a client may have seen.
func (o *Options) shown() int {
	if o.Sync.every == 0 {
		return maxBatchEvents
	}
	return maxUnsynced + maxBatchEvents
}

// beginShowing notes that outside clients may see events from now on, if they are let in.
func (j *Journal) beginShowing(run *embedded) error {
	if !run.shows {
		return j.endShowing()
	}
	text := strings.NewReader(strconv.Itoa(j.o.shown()) + "\n")
	if err := writeSynced(shownPath(j.o.Dir), text, (*os.File).Sync); err != nil {
		return err
	}
	return fsyncPath(j.o.Dir)
}

// endShowing notes that everything that they saw is on the disk.
func (j *Journal) endShowing() error {
	err := os.Remove(shownPath(j.o.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fsyncPath(j.o.Dir)
}

// skip leaves out the numbers that outside clients of a run that did not end cleanly may have seen.
// gap is the end that the journal lost, nil if it lost none. When damage took the last events and
// their numbers stay, one number is left out after them: only an event that follows shows a reader
// that something is missing. Called before anything is appended.
func (j *Journal) skip(run *embedded, gap *GapError) error {
	data, err := os.ReadFile(shownPath(j.o.Dir))
	if errors.Is(err, fs.ErrNotExist) && j.endDamaged {
		return j.leaveOut(run, 1)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < maxBatchEvents {
		n = maxUnsynced + maxBatchEvents // the file was written when the power went
	}
	if gap != nil {
		n += int(min(gap.Missing(), maxSkipped))
	}
	if n > maxSkipped {
		n = maxSkipped
		j.log.Error("the journal lost more than is left out: numbers of events are used again", "lost", gap.Missing(), "left out", n)
	}
	return j.leaveOut(run, n)
}

// skipShown leaves out the numbers up to last, which outside clients may have seen, when the
// journal lost its end while it was open. What can be left out no number is used twice for; of the
// rest readers are told. Called before anything is appended to the run.
func (j *Journal) skipShown(run *embedded, last uint64) {
	if !run.shows || run.last >= last {
		return
	}
	n := last - run.last
	if n > maxSkipped {
		j.log.Error("the journal lost more than is left out: numbers of events are used again", "lost", n, "at most", maxSkipped)
		return
	}
	if err := j.leaveOut(run, int(n)); err != nil {
		j.log.Error("numbers of events that NATS clients saw may be used again", "err", err)
	}
}

// leaveOut gives the next n numbers to events that say nothing.
func (j *Journal) leaveOut(run *embedded, n int) error {
	at := j.o.Now().UnixNano() // the same here and in the marker, which is compared with the last of them
	event := codec.EncodeRelayEvent(nil, &codec.RelayEvent{Time: at, Kind: codec.RelaySkipped})
	if err := j.space.check(uint64(n * (len(event) + 64))); err != nil {
		j.log.Error("numbers of events that NATS clients saw before an unclean stop may be used again", "err", err)
		return nil
	}
	from := run.last + 1
	batch := make([]*request, min(n, maxBatchEvents))
	for i := range batch {
		batch[i] = &request{subject: subjectSkipped, data: event}
	}
	for n > 0 {
		part := batch[:min(n, len(batch))]
		if err := run.write(part, j.o.ackTimeout, j.ctx.Done()); err != nil {
			return err
		}
		run.last += uint64(len(part))
		n -= len(part)
	}
	if err := run.blocks.sync(); err != nil {
		return &syncError{err}
	}
	j.durable.advance(run.last, at)
	j.m.lastSeq.Set(float64(run.last))
	j.log.Info("numbers of events are left out: clients may have seen them before the run ended, or a damaged end is to be noticed",
		"from", from, "to", run.last)
	return nil
}
