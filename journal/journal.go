package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// markerInterval is how often the marker is saved while events arrive.
const markerInterval = 5 * time.Second

// Journal is an open journal. Its methods are safe for concurrent use.
type Journal struct {
	o      Options
	log    *slog.Logger
	m      *metrics
	lock   *os.File
	report OpenReport
	space  *space

	relays   relays
	pool     sync.Pool
	queue    chan *request
	closing  chan struct{} // closed by Close: no append gets in any more
	stopped  chan struct{} // closed when the committer has written its last batch
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	closer   sync.Once
	closeErr error
	meter    meter

	runs    *runs
	durable *watermark
	tail    tailDecoder
	losses  losses
	// endDamaged: the last events were found damaged at the start. Open's.
	endDamaged bool
	// older are the blocks that the last start did not verify, and the one behind them.
	older atomic.Pointer[[]int]
	// blocked is true from a write error until appending resumes; a run may be there before, for
	// readers.
	blocked  atomic.Bool
	unsynced int       // events written since the last fsync; the committer's
	failures int       // write errors since the last good batch; the committer's
	taken    time.Time // when the last batch was taken; the committer's
	identity string    // of the stream; set by Open
	saved    Marker    // by saveMarker

	mu     sync.Mutex
	broke  error // why appends are blocked, nil if they are not
	closed bool
}

// Open opens the journal in o.Dir, or makes it. It returns when the journal is ready, which takes
// milliseconds, or seconds for a long journal after a kill -9; ctx bounds that. What it found out
// of the ordinary is in Report.
//
// The error is an *Error of one of the kinds ErrInUse, ErrMissing, ErrDamaged, ErrForeign and
// ErrServer, or plain when the options are wrong.
func Open(ctx context.Context, o Options) (*Journal, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: making the directory: %w", err)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		o: o, log: o.Logger, m: m,
		queue: make(chan *request, o.queue), closing: make(chan struct{}), stopped: make(chan struct{}),
		runs: newRuns(), durable: newWatermark(o),
		space: &space{dir: o.Dir, minFree: o.MinFree, statfs: o.statfs, log: o.Logger},
	}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	if err := j.open(ctx); err != nil {
		j.cancel()
		if j.lock != nil {
			_ = j.lock.Close() // nothing was written to it
		}
		m.unregister()
		return nil, err
	}
	j.wg.Add(3)
	go j.committer()
	go j.watch()
	go j.verifyOlder(*j.older.Load())
	return j, nil
}

func (j *Journal) open(ctx context.Context) error {
	var err error
	if j.lock, err = lockDir(j.o.Dir); err != nil {
		return &Error{Op: "open", Dir: j.o.Dir, Kind: kindOr(err, ErrInUse), Err: causeUnless(err, ErrInUse)}
	}
	var marker *Marker
	if j.o.Marker != nil {
		m, ok, err := j.o.Marker.LoadMarker()
		if err != nil {
			return &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
		}
		if ok {
			marker = &m
			marker.Seq, marker.EventTime = reached(m, j.o.Reached)
			j.losses.begin(m.Lost, m.Holes)
		}
	}
	run, err := j.start(ctx, marker, &j.report)
	if err != nil && j.o.SetAside && ctx.Err() == nil && settable(err) {
		var aside string
		if aside, err = j.setAside(err); err == nil {
			j.report = OpenReport{SetAside: aside}
			run, err = j.start(ctx, nil, &j.report)
		}
	}
	if err != nil {
		return err
	}
	if err := errors.Join(j.skip(run, j.report.Gap), j.beginShowing(run)); err != nil {
		run.stop()
		return &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	if err := j.letIn(run); err != nil {
		run.stop()
		return err
	}
	j.identity = run.identity
	j.meter.begin(run.msgs, run.stream.CachedInfo().State.LastTime)
	j.runs.set(run)
	if err := j.saveMarker(true); err != nil {
		run.stop()
		return &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	_ = j.space.check(0) // Healthy tells
	j.m.writable.Set(1)
	return nil
}

// reached is the marker's event, or the later one that positions in the journal prove: the marker
// is saved less often.
func reached(m Marker, seq uint64) (uint64, int64) {
	if seq > m.Seq {
		return seq, 0
	}
	return m.Seq, m.EventTime
}

// settable reports whether setting the journal aside would help.
func settable(err error) bool {
	return errors.Is(err, ErrMissing) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign)
}

func kindOr(err, kind error) error {
	if errors.Is(err, kind) {
		return kind
	}
	return ErrServer
}

func causeUnless(err, kind error) error {
	if err == kind {
		return nil
	}
	return err
}

// ready makes a started run fit for appending: what it holds is synced, and its acknowledgements
// have a place.
func (j *Journal) ready(run *embedded) error {
	run.blocks = &blocks{dir: run.msgs, fsync: j.o.fsync}
	if err := run.blocks.all(0); err != nil {
		return &syncError{err}
	}
	run.acks = make(chan *nats.Msg, 8)
	run.ackSubject = run.nc.NewInbox()
	if _, err := run.nc.ChanSubscribe(run.ackSubject, run.acks); err != nil {
		return err
	}
	var t int64
	ctx, cancel := context.WithTimeout(j.ctx, 10*time.Second)
	defer cancel()
	if run.last > 0 {
		if msg, err := run.stream.GetMsg(ctx, run.last); err == nil {
			t, _ = eventTime(msg.Subject, msg.Data)
		}
	}
	j.durable.advance(run.last, t)
	j.m.lastSeq.Set(float64(run.last))
	return nil
}

// Report tells what Open found.
func (j *Journal) Report() OpenReport { return j.report }

// Identity is the journal's: another one is begun with another.
func (j *Journal) Identity() string { return j.identity }

// State is what the journal holds.
type State struct {
	// FirstSeq and LastSeq are the sequence numbers of the oldest and of the newest durable event.
	// LastSeq is the last number used even when the journal is empty; FirstSeq is LastSeq+1 then.
	FirstSeq, LastSeq uint64
	// FirstTime and LastTime are when the oldest and the newest event were stored; zero if the
	// journal is empty.
	FirstTime, LastTime time.Time
	// Bytes and Messages are what is stored, MaxBytes and Retention what may be. What stands for a
	// number that is left out is not counted as a message.
	Bytes, Messages uint64
	MaxBytes        int64
	Retention       time.Duration
	// Appended is how many bytes were stored since the journal was opened, also those that it has
	// dropped since.
	Appended int64
	// Reach is how far back the journal reaches at the present rate.
	Reach Reach
}

// State asks the server. It fails with ErrUnavailable while the server is being restarted, and with
// ErrClosed.
func (j *Journal) State(ctx context.Context) (State, error) {
	run := j.runs.current()
	if run == nil {
		return State{}, j.absent("state")
	}
	info, err := run.stream.Info(ctx, jetstream.WithSubjectFilter(subjectSkipped))
	if err != nil {
		return State{}, &Error{Op: "state", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	s := info.State
	last, _, _ := j.durable.get()
	st := State{FirstSeq: s.FirstSeq, LastSeq: min(s.LastSeq, last),
		Bytes: s.Bytes, Messages: s.Msgs - s.Subjects[subjectSkipped],
		MaxBytes: j.o.MaxBytes, Retention: j.o.Retention, Appended: j.meter.appended.Load(), Reach: j.reach()}
	if s.Msgs > 0 {
		st.FirstTime, st.LastTime = s.FirstTime, s.LastTime
	} else {
		st.FirstSeq = st.LastSeq + 1
	}
	return st, nil
}

// absent is the error of what needs the server while there is none.
func (j *Journal) absent(op string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return &Error{Op: op, Dir: j.o.Dir, Kind: ErrClosed}
	}
	return &Error{Op: op, Dir: j.o.Dir, Kind: ErrUnavailable, Err: j.broke}
}

// Healthy tells why events cannot be appended at the moment (ErrDiskFull, ErrUnavailable,
// ErrClosed), or nil. It does not block on the disk or the server.
func (j *Journal) Healthy() error {
	j.mu.Lock()
	closed, broke := j.closed, j.broke
	j.mu.Unlock()
	if closed {
		return &Error{Op: "append", Dir: j.o.Dir, Kind: ErrClosed}
	}
	if err := j.space.state(); err != nil {
		return err
	}
	if broke != nil {
		return &Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnavailable, Err: broke}
	}
	return nil
}

// watch looks at the free space once a second, so that Healthy is right also when nothing is
// appended, and saves the marker.
func (j *Journal) watch() {
	defer j.wg.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	saved := time.Now()
	var short reachWarning
	for {
		select {
		case <-j.ctx.Done():
			return
		case <-tick.C:
		}
		_ = j.space.check(0) // Healthy tells
		now := time.Now()
		j.meter.note(now)
		short.check(now, j.reach(), j.o.Retention, j.log)
		if j.Healthy() == nil {
			j.m.writable.Set(1)
		} else {
			j.m.writable.Set(0)
		}
		if time.Since(saved) >= markerInterval {
			saved = time.Now()
			if err := j.saveMarker(false); err != nil {
				j.log.Warn("the journal's marker could not be saved", "err", err)
			}
		}
	}
}

// saveMarker writes the marker down if it moved, or if always. Called by Open, by watch, and by
// Close after watch has ended: never twice at a time.
func (j *Journal) saveMarker(always bool) error {
	if j.o.Marker == nil {
		return nil
	}
	// Also while there is no run: what was acknowledged is known, and the files may be gone.
	seq, t, _ := j.durable.get()
	m := Marker{Stream: j.identity, Seq: seq, EventTime: t}
	m.Lost, m.Holes = j.losses.saved()
	if m.equal(j.saved) && !always {
		return nil
	}
	if err := j.o.Marker.SaveMarker(m); err != nil {
		return err
	}
	j.saved = m
	return nil
}

// Close writes what was queued, saves the marker and stops the server. Appends that come later fail
// with ErrClosed, and so do those still waiting when ctx ends; readers end with ErrClosed. A second
// Close returns what the first did.
func (j *Journal) Close(ctx context.Context) error {
	j.closer.Do(func() { j.closeErr = j.close(ctx) })
	return j.closeErr
}

func (j *Journal) close(ctx context.Context) error {
	close(j.closing)
	var err error
	select {
	case <-j.stopped:
	case <-ctx.Done():
		err = fmt.Errorf("journal: closing: %w", ctx.Err())
	}
	j.cancel()
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.wg.Wait()
	if serr := j.saveMarker(false); serr != nil {
		err = errors.Join(err, serr)
	}
	if run := j.runs.current(); run != nil {
		synced := !run.shows || run.last == 0 || run.blocks.sync() == nil
		run.blocks.close()
		run.stop()
		if synced && err == nil {
			err = j.endShowing()
		}
	}
	j.runs.set(nil)
	j.m.writable.Set(0)
	j.m.unregister()
	return errors.Join(err, j.lock.Close())
}
