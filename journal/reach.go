package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/internal/plainfile"
)

const (
	// rateOver is the time over which the journal's growth is measured, rateLeast the shortest time
	// that says something about it.
	rateOver  = 5 * time.Minute
	rateLeast = time.Minute
	// reachShort is how long the reach must be too short before the log warns of it: longer than a
	// burst stays in the rate. reachWarnEvery is the time between two warnings.
	reachShort     = 2 * rateOver
	reachWarnEvery = 24 * time.Hour
)

// The limits of a Reach.
const (
	LimitRetention = "retention" // Options.Retention
	LimitMaxBytes  = "max_bytes" // Options.MaxBytes
)

// Reach is how far back the journal reaches if it goes on growing at the present rate. It is zero
// if the rate is not known: there are no events of a whole minute.
type Reach struct {
	Seconds float64 `json:"seconds"`
	// Limit is what drops the oldest events then: LimitRetention or LimitMaxBytes.
	Limit string `json:"limit"`
	// BytesPerSecond is the rate: over the last five minutes, or over the newest events before the
	// journal was opened.
	BytesPerSecond float64 `json:"bytes_per_second"`
}

// reachAt returns the reach at a rate.
func reachAt(bytesPerSecond float64, retention time.Duration, maxBytes int64) Reach {
	r := Reach{Seconds: retention.Seconds(), Limit: LimitRetention, BytesPerSecond: math.Round(bytesPerSecond)}
	if fits := math.Floor(float64(maxBytes) / bytesPerSecond); fits < r.Seconds { // not with a rate of 0: +Inf
		r.Seconds, r.Limit = fits, LimitMaxBytes
	}
	return r
}

// Needs returns how many bytes the journal needs to reach back for d.
func (r Reach) Needs(d time.Duration) int64 {
	return int64(min(r.BytesPerSecond*d.Seconds(), 1<<62))
}

// ReachOf returns how far the journal in dir reaches with these limits, at the rate of its newest
// events. It reads some of the files and changes nothing, so a server may run on dir. A journal
// that is not there has no Reach. The error is one of the file system.
func ReachOf(dir string, retention time.Duration, maxBytes int64) (Reach, error) {
	msgs := filepath.Join(streamDir(dir), "msgs")
	list, err := listBlocks(msgs)
	for at := len(list) - 1; at >= 0; at-- {
		last, ok, lastErr := lastEvent(blockPath(msgs, list[at]))
		if lastErr != nil && !errors.Is(lastErr, fs.ErrNotExist) {
			return Reach{}, lastErr
		}
		if ok {
			perSecond, ok := blocksRate(msgs, last)
			if !ok {
				return Reach{}, nil
			}
			return reachAt(perSecond, retention, maxBytes), nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return Reach{}, err
}

// lastEvent returns when the last event of a block was stored, by the heads of its records.
func lastEvent(path string) (at time.Time, ok bool, err error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return at, false, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	data, err := io.ReadAll(f)
	for len(data) >= recordMin {
		size := int(binary.LittleEndian.Uint32(data) &^ lengthHeaders)
		if size < recordMin || size > len(data) {
			break
		}
		if binary.LittleEndian.Uint64(data[4:])&numberDeletion == 0 {
			at, ok = time.Unix(0, int64(binary.LittleEndian.Uint64(data[12:]))), true
		}
		data = data[size:]
	}
	return at, ok, err
}

// blocksRate returns the bytes a second of the newest blocks, whose last event was stored at last.
// It goes back over rateOver, or as far as there are blocks. ok is false if that is too short.
func blocksRate(msgs string, last time.Time) (perSecond float64, ok bool) {
	list, err := listBlocks(msgs)
	if err != nil {
		return 0, false
	}
	size := 0.0
	for at := len(list) - 1; at >= 0; at-- {
		path := blockPath(msgs, list[at])
		first, there, err := firstEvent(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil {
			break // dropped by retention meanwhile, or damaged
		}
		size += float64(info.Size())
		if over := last.Sub(first.at); there && over >= rateLeast {
			perSecond, ok = size/over.Seconds(), true
			if over >= rateOver {
				break
			}
		}
	}
	return perSecond, ok
}

// meter measures at which rate the journal grows.
type meter struct {
	appended atomic.Int64 // bytes in the blocks, since the journal was opened

	mu       sync.Mutex
	samples  []sizeSample // of the last rateOver
	before   float64      // the rate before the journal was opened
	isBefore bool         // before is known
}

type sizeSample struct {
	at       time.Time
	appended int64
}

// begin takes the rate that the blocks had when the journal was opened.
func (m *meter) begin(msgs string, last time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.isBefore = blocksRate(msgs, last)
}

// note takes what was appended until now.
func (m *meter) note(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples = append(m.samples, sizeSample{now, m.appended.Load()})
	old := 0
	for now.Sub(m.samples[old].at) > rateOver {
		old++
	}
	m.samples = append(m.samples[:0], m.samples[old:]...)
}

// rate returns the bytes a second, of the time before the journal was opened until there is a minute
// of samples. ok is false if there is no rate yet.
func (m *meter) rate() (perSecond float64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.samples); n > 0 {
		first, last := m.samples[0], m.samples[n-1]
		if over := last.at.Sub(first.at); over >= rateLeast {
			return float64(last.appended-first.appended) / over.Seconds(), true
		}
	}
	return m.before, m.isBefore
}

// reach is State's.
func (j *Journal) reach() Reach {
	perSecond, ok := j.meter.rate()
	if !ok {
		return Reach{}
	}
	return reachAt(perSecond, j.o.Retention, j.o.MaxBytes)
}

// reachWarning warns of a journal that is too small for its retention. It is watch's.
type reachWarning struct {
	since  time.Time // when the reach became too short; zero if it is not
	logged time.Time
}

func (w *reachWarning) check(now time.Time, r Reach, retention time.Duration, log *slog.Logger) {
	if r.Limit != LimitMaxBytes {
		w.since = time.Time{}
		return
	}
	if w.since.IsZero() {
		w.since = now
	}
	if now.Sub(w.since) < reachShort || !w.logged.IsZero() && now.Sub(w.logged) < reachWarnEvery {
		return
	}
	w.logged = now
	log.Warn("the journal will drop events before --journal-retention: give it a larger --journal-max-bytes, or a shorter --journal-retention",
		"reaches", human.Seconds(r.Seconds), "retention", human.Seconds(retention.Seconds()),
		"journal-max-bytes", human.SizeFlag(r.Needs(retention)))
}
