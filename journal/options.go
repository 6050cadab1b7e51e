package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits and defaults.
const (
	// MaxEventBytes is the size of the largest encoded event of an own relay. One of an edge was not
	// larger there, and says of which edge it is too: up to maxStored.
	MaxEventBytes = 1 << 20
	maxStored     = MaxEventBytes + 256
	// DefaultRetention is how long events are kept.
	DefaultRetention = 7 * 24 * time.Hour
	// DefaultMaxBytes is how large the journal may grow.
	DefaultMaxBytes = 10 << 30
	// DefaultMinFree is the free space below which nothing is appended.
	DefaultMinFree = 64 << 20
	// minMaxBytes keeps some blocks in the journal, so that a batch never drops itself.
	minMaxBytes = 32 << 20
)

// SyncPolicy says when appended events reach the disk. The zero value is SyncAlways.
type SyncPolicy struct{ every time.Duration }

// SyncAlways is the default: Append returns after an fsync, which it shares with every event that
// was waiting at the same time.
func SyncAlways() SyncPolicy { return SyncPolicy{} }

// SyncEvery makes Append return as soon as the kernel has the event; an fsync follows at most d
// later. A kill -9 loses nothing, a power loss up to d of acknowledged events. A d of 0 or less is
// SyncAlways.
func SyncEvery(d time.Duration) SyncPolicy { return SyncPolicy{every: max(d, 0)} }

// Interval is the d of SyncEvery, and 0 for SyncAlways.
func (p SyncPolicy) Interval() time.Duration { return p.every }

// String is the form of --journal-sync: "always" or "interval:1s".
func (p SyncPolicy) String() string {
	if p.every == 0 {
		return "always"
	}
	return "interval:" + p.every.String()
}

// Options configure a journal. Only Dir is required.
type Options struct {
	// Dir is the journal's own directory; it is made (0700) if it is not there.
	Dir string
	// Marker remembers, outside of Dir, that a journal exists and how far it got. With nil a
	// journal that vanished is taken for a new one.
	Marker MarkerStore
	// Reached is an event that the journal is known to have held, from a reader's position for
	// instance: the marker is saved every five seconds only (0: not known).
	Reached uint64
	// Sync is when appended events reach the disk.
	Sync SyncPolicy
	// Retention is the age at which events are dropped, counted from when they were stored (0:
	// DefaultRetention).
	Retention time.Duration
	// MaxBytes is the size of the journal's files above which the oldest events are dropped (0:
	// DefaultMaxBytes).
	MaxBytes int64
	// MinFree is the free space, in bytes, below which Append refuses (0: DefaultMinFree or 1 % of
	// the filesystem, whichever is smaller; negative: no guard).
	MinFree int64
	// SetAside lets Open rename a journal that cannot be opened to Dir.aside-<time> and begin
	// another. A journal that can be opened is left alone, so that a forgotten flag erases nothing.
	// Report().SetAside tells.
	SetAside bool
	// Outside lets other people's programs read the journal (nil: nobody).
	Outside Outside
	// Logger gets the journal's log and the embedded server's warnings (nil: none).
	Logger *slog.Logger
	// Registerer gets the metrics (nil: a private one).
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now). The ages of Retention follow the system's clock, not this
	// one.
	Now func() time.Time

	// Seams for tests; the zero values are production's.
	statfs     func(path string) (free, total uint64, err error)
	fsync      func(f *os.File) error
	ackTimeout time.Duration
	retryMin   time.Duration
	queue      int
	noTail     bool
	// verifyBytes is how much is verified at a start, olderPause the pause before each block that
	// is verified after it.
	verifyBytes int64
	olderPause  time.Duration
	// serverSyncAlways makes the server sync every write, for comparison.
	serverSyncAlways bool
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("journal: Options.Dir is empty; name a directory")
	}
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("journal: the directory %q: %w", o.Dir, err)
	}
	o.Dir = abs
	if o.Retention < 0 || o.MaxBytes < 0 {
		return o, errors.New("journal: a negative retention or size; give a positive one, or 0 for the default")
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Retention < time.Second {
		return o, fmt.Errorf("journal: a retention of %v is too short; give at least 1s", o.Retention)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBytes < minMaxBytes {
		return o, fmt.Errorf("journal: a size of %d bytes is too small; give at least %d", o.MaxBytes, minMaxBytes)
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
	if o.statfs == nil {
		o.statfs = statfs
	}
	if o.fsync == nil {
		o.fsync = (*os.File).Sync
	}
	if o.ackTimeout == 0 {
		o.ackTimeout = 10 * time.Second
	}
	if o.retryMin == 0 {
		o.retryMin = time.Second
	}
	if o.verifyBytes == 0 {
		o.verifyBytes = verifyBytes
	}
	if o.olderPause == 0 {
		o.olderPause = olderPause
	}
	if o.queue == 0 {
		o.queue = 16 << 10
	}
	return o, nil
}
