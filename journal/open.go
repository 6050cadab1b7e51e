package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/journal/codec"
)

// OpenReport is what Open found.
type OpenReport struct {
	// Created: there was no journal, and no marker of one.
	Created bool
	// SetAside is the directory to which a journal that could not be opened was renamed, "" if that
	// did not happen. Positions in it are void: begin them again.
	SetAside string
	// Restored: the server had not opened the stream, and its readable blocks were put back.
	// Unreadable is the directory with the blocks (and what else was found) that cannot be read or
	// were damaged, as they were, "" if there are none; readers report what is missing as gaps.
	Restored   bool
	Unreadable string
	// Gap is the end that the journal lost, nil if it lost none: the numbers from Gap.From on are
	// used again, and positions after Gap.From-1 must go back to it.
	Gap *GapError
}

// lockDir takes the directory for this process until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return f, nil
}

// setAside renames a journal that cannot be opened and takes a new, empty directory.
func (j *Journal) setAside(cause error) (string, error) {
	to, err := freeName(j.o.Dir + ".aside-" + stamp(j.o.Now()))
	if err != nil {
		return "", err
	}
	if err := os.Rename(j.o.Dir, to); err != nil {
		return "", fmt.Errorf("setting the journal aside: %w (it cannot be opened because: %w)", err, cause)
	}
	if err := os.MkdirAll(j.o.Dir, 0o700); err != nil {
		return "", err
	}
	lock, err := lockDir(j.o.Dir)
	if err != nil {
		return "", err
	}
	_ = j.lock.Close() // nothing was written to it
	j.lock = lock
	j.log.Warn("the journal could not be opened; it was set aside and a new one begun", "aside", to, "err", cause)
	return to, nil
}

// start brings up the server with the stream in it, repairing what can be repaired. marker is what
// is known of the journal, nil if nothing is. It is used by Open and by every restart after a write
// error.
func (j *Journal) start(ctx context.Context, marker *Marker, report *OpenReport) (*embedded, error) {
	found, err := linkBlocks(j.o.Dir, j.o.Now(), j.o.fsync, scope{j.o.verifyBytes, j.o.Retention})
	var link *linkError
	var mend *mendError
	switch {
	case errors.As(err, &link):
		j.log.Warn("the journal's files could not be linked aside; it is opened without that protection", "err", err)
	case err != nil && !failed(err), errors.As(err, &mend):
		return nil, &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	case err != nil:
		return nil, &Error{Op: "open", Dir: j.o.Dir, Kind: ErrDamaged, Err: err}
	case found.aside == "":
	default:
		text := "blocks of the journal are damaged or cannot be read; they were kept aside as they were"
		if found.special {
			text = "there was something that is no file among the journal's files; " +
				"it was moved aside, with damaged blocks if there were any"
		}
		j.log.Error(text, "in", found.aside, "mended", found.mended)
		report.Unreadable = found.aside
	}
	run, err := startServer(ctx, j.o)
	if err != nil {
		return nil, &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	run, err = j.openStream(ctx, run, marker, report)
	if err != nil {
		run.stop()
		return nil, err
	}
	j.tell(found.lost, run.last)
	j.older.Store(&found.older)
	if err := os.RemoveAll(linksDir(j.o.Dir)); err != nil {
		j.log.Warn("the directory of hard links could not be removed", "err", err)
	}
	if err := j.ready(run); err != nil {
		run.stop()
		return nil, &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	return run, nil
}

// tell reports the events that were lost in damaged blocks. last is the journal's end.
func (j *Journal) tell(lost []Span, last uint64) {
	for _, s := range lost {
		if s.Last == 0 || s.Last > last {
			s.Last = last // numbers beyond it are used again: compare reports them
		}
		if s.First == 0 || s.First > s.Last {
			continue
		}
		j.endDamaged = j.endDamaged || s.Last == last
		gap := &GapError{From: s.First, To: s.Last, Reason: GapLost}
		j.log.Error("the journal lost events in a damaged block", "from", gap.From, "to", gap.To, "events", gap.Missing())
		j.losses.add(gap.From, gap.To, gap.Reason, j.o.Now())
	}
}

// openStream finds, restores or creates the stream and fills in run.last. It returns the run to go
// on with, which is another one when the server had to be restarted, also with an error.
func (j *Journal) openStream(ctx context.Context, run *embedded, marker *Marker, report *OpenReport) (*embedded, error) {
	fail := func(kind, err error) (*embedded, error) {
		return run, &Error{Op: "open", Dir: j.o.Dir, Kind: kind, Err: err}
	}
	stream, err := run.js.Stream(ctx, StreamName)
	count, size := linkedBlocks(j.o.Dir)
	switch {
	case err == nil:
		info := stream.CachedInfo()
		if info.State.LastSeq > 0 || size == 0 {
			break
		}
		// The server kept the stream and read none of its blocks.
		return fail(ErrDamaged, fmt.Errorf("%d blocks with %d bytes give no event", count, size))
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return fail(ErrServer, err)
	case size == 0 && marker != nil && marker.Seq > 0:
		return fail(ErrMissing, fmt.Errorf("it had reached event %d", marker.Seq))
	case count > 0:
		run, stream, err = j.restore(ctx, run, marker, report)
		if err != nil && !failed(err) {
			return fail(ErrServer, err)
		}
		if err != nil {
			return fail(ErrDamaged, err)
		}
	default:
		identity := rand.Text()
		if marker != nil {
			identity = marker.Stream // of a journal that never got an event
		}
		if stream, err = run.js.CreateStream(ctx, streamConfig(j.o, identity)); err != nil {
			return fail(ErrServer, err)
		}
		report.Created = true
		if err := syncTree(streamDir(j.o.Dir), j.o.Dir); err != nil {
			return fail(ErrServer, err)
		}
	}
	info := stream.CachedInfo()
	if marker != nil {
		if id := info.Config.Metadata[metaIdentity]; id != "" && id != marker.Stream {
			return fail(ErrForeign, fmt.Errorf("its identity is %s instead of %s", id, marker.Stream))
		}
		if info.State.LastSeq == 0 && marker.Seq > 0 {
			return fail(ErrMissing, fmt.Errorf("it had reached event %d", marker.Seq))
		}
	}
	if stream, err = j.configure(ctx, run, info.Config); err != nil {
		return fail(ErrServer, err)
	}
	info = stream.CachedInfo()
	run.stream, run.last, run.identity = stream, info.State.LastSeq, info.Config.Metadata[metaIdentity]
	if marker != nil {
		return run, j.compare(ctx, run, marker, report)
	}
	return run, nil
}

// configure brings the stream's limits up to the options. Its files are synced, because the server
// does not.
func (j *Journal) configure(ctx context.Context, run *embedded, have jetstream.StreamConfig) (jetstream.Stream, error) {
	identity := have.Metadata[metaIdentity]
	if identity == "" {
		identity = rand.Text()
	}
	want := streamConfig(j.o, identity)
	if have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes && have.Metadata[metaIdentity] == identity &&
		have.MaxMsgSize == want.MaxMsgSize && have.Duplicates == want.Duplicates && have.DenyDelete == want.DenyDelete &&
		have.AllowDirect == want.AllowDirect && slices.Equal(have.Subjects, want.Subjects) {
		return run.js.Stream(ctx, StreamName)
	}
	stream, err := run.js.UpdateStream(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("changing the stream's limits: %w", err)
	}
	return stream, syncTree(streamDir(j.o.Dir), j.o.Dir)
}

// compare holds the stream against what the marker says.
func (j *Journal) compare(ctx context.Context, run *embedded, marker *Marker, report *OpenReport) error {
	if run.last < marker.Seq {
		report.Gap = &GapError{From: run.last + 1, To: marker.Seq, Reason: GapRewound}
		j.lost(report.Gap)
		j.log.Error("the journal lost its end", "from", report.Gap.From, "to", report.Gap.To, "events", report.Gap.Missing())
		return nil
	}
	if marker.Seq == 0 || marker.EventTime == 0 {
		return nil
	}
	msg, err := run.stream.GetMsg(ctx, marker.Seq)
	if err != nil {
		return nil // dropped by retention, or a gap that a reader will report
	}
	if t, ok := eventTime(msg.Subject, msg.Data); ok && t != marker.EventTime {
		return &Error{Op: "open", Dir: j.o.Dir, Kind: ErrForeign, Err: fmt.Errorf("event %d is of %v instead of %v",
			marker.Seq, time.Unix(0, t).UTC(), time.Unix(0, marker.EventTime).UTC())}
	}
	return nil
}

// restore brings a stream back that the server did not open: it dropped it because of a block that
// it could not read, or its meta file is damaged. The same configuration over the blocks brings the
// events back.
func (j *Journal) restore(ctx context.Context, run *embedded, marker *Marker, report *OpenReport) (
	*embedded, jetstream.Stream, error) {
	run.stop()
	unreadable, restored, err := putBack(j.o.Dir, j.o.Now())
	if err != nil {
		return run, nil, err
	}
	if unreadable != "" {
		report.Unreadable = unreadable
	}
	report.Restored = true
	next, err := startServer(ctx, j.o)
	if err != nil {
		return run, nil, err
	}
	run = next
	identity := rand.Text()
	if marker != nil {
		identity = marker.Stream
	}
	stream, err := run.js.CreateStream(ctx, streamConfig(j.o, identity))
	if err != nil {
		return run, nil, fmt.Errorf("making the stream over its %d blocks: %w", restored, err)
	}
	if stream.CachedInfo().State.LastSeq == 0 {
		return run, nil, fmt.Errorf("%d blocks give no event", restored)
	}
	j.log.Error("the server had dropped the journal; its readable blocks were put back",
		"blocks", restored, "events", stream.CachedInfo().State.Msgs, "unreadable", report.Unreadable)
	return run, stream, syncTree(streamDir(j.o.Dir), j.o.Dir)
}

// eventTime is the time inside a stored message.
func eventTime(subject string, data []byte) (int64, bool) {
	var d codec.Decoder
	if _, relayEvent := codec.Kind(subject); relayEvent {
		var e codec.RelayEvent
		err := d.DecodeRelayEvent(data, &e)
		return e.Time, err == nil
	}
	var e codec.Event
	err := d.DecodeEvent(data, &e)
	return e.Time, err == nil
}
