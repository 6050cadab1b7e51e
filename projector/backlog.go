package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

const (
	// jumpBehind is how many records a runner may be behind the journal's end and still catch up in order: a second's
	// work or so. Less than that is not worth a transaction and a new reader.
	jumpBehind = 5000
	// chunkRecords is how many records the backlog takes at a time: a second or two of work, so that a newer range soon
	// has its turn, little is repeated after a crash, and the fsync of the smaller range costs nothing beside it.
	chunkRecords = 20_000
	// maxSpans is how many ranges a backlog has at most: one an outage.
	maxSpans = 64
)

// BacklogOptions configure a Backlog. Projection, Journal and DB are required.
type BacklogOptions struct {
	// Projection is a second instance of the runner's, of the same name; it belongs to the backlog's goroutine.
	Projection Projection
	Journal    Source
	// DB is the database in which the runner's position is kept.
	DB *bbolt.DB
	// Rejects lists the records that cannot be read or applied (nil: they are counted and logged only).
	Rejects *Rejects
	// Logger gets the log (nil: none), Registerer the metrics (nil: private ones): give the runner's, so that
	// the counters of both add up.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock that the projection is told (nil: time.Now).
	Now func() time.Time
}

// Backlog fills in what its runner left out to be live again soon: after an outage the runner applies what is new, and
// the backlog goes from the newest record that is missing back to the oldest, at the same time. So it is only for
// projections to which the order of records does not matter.
//
// What is left to do is kept in bbolt, bucket "backlog", as ranges of sequence numbers. A range comes into being in the transaction that moves the
// runner's position to its end, and gets smaller after each chunk of 20,000 records was applied: a crash repeats a chunk and leaves out
// nothing. A newer range goes first. Failures are met as a runner meets them; what retention drops before its turn
// is counted and reported as a gap.
//
// Start it once, before or after its runner; its methods may be called from any goroutine, the projection's own among them.
type Backlog struct {
	o       BacklogOptions
	name    string
	log     *slog.Logger
	metrics *metrics
	chunk   uint64 // records of a chunk
	behind  uint64 // how far behind the journal's end the runner leaves the rest to the backlog

	ctx      context.Context // ends with Stop
	cancel   context.CancelFunc
	hurry    context.Context // within ctx; ends with Drain too: end when nothing is left
	endHurry context.CancelFunc
	wake     chan struct{} // holds one: there is something to do
	done     chan struct{} // closed when the goroutine has ended

	// changing is held while the ranges are changed in the database and in memory. It comes before mu.
	changing sync.Mutex

	mu       sync.Mutex    // guards what follows; held for a moment only
	ranges   journal.Spans // as they are in the database
	epoch    int           // counts the times that the ranges were taken back: a chunk of an earlier epoch counts for nothing
	running  *Runner       // of the chunk under way
	status   BacklogStatus
	started  bool
	failures retry.Failures
}

// BacklogStatus is what a backlog tells about itself.
type BacklogStatus struct {
	// Name is the projection's.
	Name string `json:"name"`
	// Records counts what is left to do, in so many Ranges; From is the oldest of it and To the newest (0 if nothing is left).
	Records uint64 `json:"records"`
	Ranges  int    `json:"ranges"`
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	// Failing says that the last attempt failed, LastError how, FailingSince since when. Failures counts them since the start.
	Failing      bool      `json:"failing"`
	LastError    string    `json:"last_error,omitempty"`
	FailingSince time.Time `json:"failing_since,omitzero"`
	Failures     uint64    `json:"failures"`
	// Rejected counts records that could not be read or applied, Lost those that were missing from the journal when their
	// turn came; Gaps are the newest such gaps. The runner's Status has them too.
	Rejected uint64 `json:"rejected"`
	Lost     uint64 `json:"lost"`
	Gaps     []Gap  `json:"gaps,omitempty"`
}

// NewBacklog returns a backlog that does nothing yet. The error says which option is missing.
func NewBacklog(o BacklogOptions) (*Backlog, error) {
	if o.Projection == nil || o.Journal == nil || o.DB == nil {
		return nil, errors.New("projector: BacklogOptions needs a Projection, a Journal and a DB")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	name := o.Projection.Name()
	o.Logger = o.Logger.With("backlog", true)
	b := &Backlog{
		o: o, name: name,
		log:     o.Logger.With("projection", name),
		metrics: newMetrics(o.Registerer, name, false),
		chunk:   chunkRecords,
		behind:  jumpBehind,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		status:  BacklogStatus{Name: name},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.hurry, b.endHurry = context.WithCancel(b.ctx)
	return b, nil
}

// Start loads the ranges, cuts off what lies behind the journal's end, and starts the goroutine. The error means that
// pulse.db or the journal cannot be read; the backlog is stopped then.
func (b *Backlog) Start() error {
	b.mu.Lock()
	if b.started {
		b.mu.Unlock()
		return errors.New("projector: a backlog can be started once only")
	}
	b.started = true
	b.mu.Unlock()
	if err := b.load(); err != nil {
		b.cancel()
		close(b.done)
		return fmt.Errorf("projector: starting the backlog of %s: %w", b.name, err)
	}
	go b.run()
	return nil
}

// load loads the ranges, and then looks where the journal ends: a range was never beyond that when it came into being.
func (b *Backlog) load() error {
	if err := b.change(func(_ *bbolt.Tx, s journal.Spans) (journal.Spans, error) { return s, nil }); err != nil {
		return err
	}
	newest, epoch, ok := b.newest()
	if !ok {
		return nil
	}
	state, err := b.state()
	if err != nil || newest.Last <= state.LastSeq {
		return err
	}
	_, err = b.finished(journal.Span{First: state.LastSeq + 1, Last: newest.Last}, epoch)
	return err
}

// Stop ends the backlog where it is and waits for its goroutine. The next start goes on. It may be called twice.
func (b *Backlog) Stop() {
	b.cancel()
	b.mu.Lock()
	if !b.started {
		b.started = true
		close(b.done)
	}
	b.mu.Unlock()
	<-b.done
}

// Drain goes on until nothing is left or ctx ends, and stops. The error says how much is left then: the next start goes on
// with it. From the call on the runner adds no range.
func (b *Backlog) Drain(ctx context.Context) error {
	b.changing.Lock() // what handOver adds is added before this, and seen
	b.endHurry()
	b.changing.Unlock()
	b.mu.Lock()
	started, running := b.started, b.running
	b.mu.Unlock()
	if running != nil {
		running.endIdle()
	}
	if !started {
		b.Stop()
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		b.Stop()
	}
	s := b.Status()
	if s.Records == 0 {
		return nil
	}
	cause := context.Cause(ctx)
	if cause == nil {
		cause = context.Canceled
	}
	if s.LastError != "" {
		cause = fmt.Errorf("%w (%s)", cause, s.LastError)
	}
	return fmt.Errorf("projector: %d records are still to be filled in for %s, the next start goes on with them: %w", s.Records, b.name, cause)
}

// Busy says whether anything is left to fill in.
func (b *Backlog) Busy() bool {
	n, _ := b.left()
	return n > 0
}

// left is how many records are left, and which is the oldest.
func (b *Backlog) left() (records, from uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ranges) == 0 {
		return 0, 0
	}
	return b.ranges.Records(), b.ranges[0].First
}

// Status tells how the backlog is doing.
func (b *Backlog) Status() BacklogStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.status
	s.Gaps = slices.Clone(s.Gaps)
	if n := len(b.ranges); n > 0 {
		s.Records, s.Ranges, s.From, s.To = b.ranges.Records(), n, b.ranges[0].First, b.ranges[n-1].Last
	}
	if b.running != nil {
		r := b.running.Status()
		s.add(r)
		if r.LastError != "" {
			s.LastError, s.FailingSince = r.LastError, r.FailingSince
		}
	}
	s.Failing = s.LastError != ""
	return s
}

// add adds what a chunk's runner counted.
func (s *BacklogStatus) add(r Status) {
	s.Failures += r.Failures
	s.Rejected += r.Rejected
	s.Lost += r.Lost
	s.Gaps = newest(append(s.Gaps, r.Gaps...))
}

// change changes the ranges, and whatever else f does, in one transaction, and then in memory.
func (b *Backlog) change(f func(tx *bbolt.Tx, s journal.Spans) (journal.Spans, error)) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	return b.changeLocked(f)
}

func (b *Backlog) changeLocked(f func(tx *bbolt.Tx, s journal.Spans) (journal.Spans, error)) error {
	var changed journal.Spans
	err := b.o.DB.Update(func(tx *bbolt.Tx) error {
		s, err := loadSpans(tx, b.name)
		if err != nil {
			return err
		}
		if changed, err = f(tx, s); err != nil {
			return err
		}
		if slices.Equal(changed, s) {
			return nil
		}
		return storeSpans(tx, b.name, changed)
	})
	if err != nil {
		b.metrics.stateFailures.Inc()
		return fmt.Errorf("projector: changing the backlog of %s in %s: %w", b.name, b.o.DB.Path(), err)
	}
	b.mu.Lock()
	b.ranges = changed
	b.mu.Unlock()
	return nil
}

// errFull says that a backlog takes no more ranges.
var errFull = errors.New("the backlog takes no more ranges")

// handOver takes s over from the runner, whose position moves to the end of s. It is errFull if there are too many
// ranges, or the backlog is about to end.
func (b *Backlog) handOver(s journal.Span) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if b.hurry.Err() != nil {
		return errFull
	}
	err := b.changeLocked(func(tx *bbolt.Tx, old journal.Spans) (journal.Spans, error) {
		sum := old.Add(s)
		if len(sum) > maxSpans {
			return nil, errFull
		}
		return sum, putPosition(tx, b.name, s.Last)
	})
	if err == nil {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return err
}

// cut cuts off what lies behind end, and moves the runner's position: to the journal's end when that is shorter than it was, or to 0 with
// nothing left when the sink was wiped. The chunk under way counts for nothing.
func (b *Backlog) cut(end, position uint64) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	err := b.changeLocked(func(tx *bbolt.Tx, old journal.Spans) (journal.Spans, error) {
		return old.Within(journal.Span{Last: end}), putPosition(tx, b.name, position)
	})
	b.mu.Lock()
	b.epoch++
	b.mu.Unlock()
	return err
}

// finished takes s out of the ranges, unless they were taken back since epoch.
func (b *Backlog) finished(s journal.Span, epoch int) (ok bool, err error) {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	ok = b.epoch == epoch
	b.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, b.changeLocked(func(_ *bbolt.Tx, old journal.Spans) (journal.Spans, error) { return old.Remove(s), nil })
}
