package influx

import (
	"math"
	"time"

	"github.com/nanopack/pulse/internal/wide"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// extentGap is how many records may lie between two of a window's records in one extent:
	// reading them again is cheaper than another extent.
	extentGap  = 10_000
	maxExtents = 16
)

// takeIn adds a record to a window's extents. Each record of the window lies in an extent. The
// extents are in order; if there are more than maxExtents, the closest are joined. Records come in
// order, and a record that is not above the last one is in an extent already.
func takeIn(x journal.Spans, seq uint64) journal.Spans {
	n := len(x)
	if n > 0 {
		last := &x[n-1]
		if seq <= last.Last {
			return x
		}
		if seq-last.Last <= extentGap {
			last.Last = seq
			return x
		}
	}
	if x = append(x, journal.Span{First: seq, Last: seq}); len(x) > maxExtents {
		x = x.AtMost(maxExtents)
	}
	return x
}

// window is a span of time whose readings, of the relays of one edge, make one row per set of tags.
type window struct {
	edge       *edgeWindows
	start, end int64 // ns: [start, end)
	records    journal.Spans
	indexed    uint64 // records.Last() as the index has it
	// hold is the last record of which rows of this window may have been made. After a restart the
	// window is not written until the fold has reached this record again, so that a row is never
	// replaced by a row made of fewer readings.
	hold uint64
	// pin is the first record that rows and index do not have yet; 0 if there is none. The position
	// stays before pin. An open window keeps pin at its first record, so that the window is counted
	// again after a restart.
	pin uint64
	// closed: complete as far as is known. Events that come later are late.
	closed bool
	// closing: closed, and some of its rows do not have their last form in InfluxDB yet.
	closing bool
	// frozen: some of its events are neither in the journal nor in memory any more. Its rows stay
	// as they are.
	frozen bool
	// dirty is how many blocks have readings that are not written. since is when the first of these
	// readings came; zero if that is not known.
	dirty int
	since time.Time
	// touched is when the last event came, and used is the record of that event.
	touched time.Time
	used    uint64
	events  uint64            // counted
	blocks  map[string]*block // by the relay's id
}

// block holds one relay's part of a window. accs is indexed by lookup.Series.Index of relay. A
// relay that was made again has other indexes, so the block keeps the relay it was made with.
type block struct {
	relay *aggRelay
	accs  []acc
	dirty bool
	slice uint8 // of openSlices
}

type (
	aggRelay   = lookup.Relay[relayState, struct{}]
	aggReading = lookup.Reading[relayState, struct{}]
)

// relayState is what the aggregates keep of a relay.
type relayState struct {
	window *window // the window of block, of the last event
	block  *block
	rows   []*TagSet // by lookup.Set.Index
	blocks int       // in all windows
}

// acc accumulates the readings of one series in a window.
type acc struct {
	sum, min, max, last float64 // sum as package wide has it
	count               uint32
	scaled              bool
	dirty               bool
}

// add adds a reading. Readings are added in the journal's order, so that counting again gives the
// same bits.
func (a *acc) add(v float64) {
	if a.count == 0 {
		a.min, a.max = v, v
	} else if v < a.min {
		a.min = v
	} else if v > a.max {
		a.max = v
	}
	a.sum, a.scaled = wide.Add(a.sum, a.scaled, v)
	a.last = v
	a.count++
}

// row returns the values of the accumulator as a row has them.
func (a *acc) row() WindowRow {
	n := float64(a.count)
	return WindowRow{
		Mean: wide.Mean(a.sum, a.scaled, n, a.min, a.max), Count: n,
		Sum: min(max(wide.Sum(a.sum, a.scaled), -math.MaxFloat64), math.MaxFloat64), // InfluxDB has no infinities
		Min: a.min, Max: a.max, Last: a.last,
	}
}

// contains reports whether an event of time t belongs to the window.
func (w *window) contains(t int64) bool { return t >= w.start && t < w.end }

// touch marks a block of the window as not written.
func (w *window) touch(b *block) {
	if !b.dirty {
		b.dirty = true
		w.dirty++
	}
}

// wrote marks a block of the window as written.
func (w *window) wrote(b *block) {
	if b.dirty {
		b.dirty = false
		w.dirty--
	}
	for i := range b.accs {
		b.accs[i].dirty = false
	}
	if w.dirty > 0 {
		return
	}
	w.since, w.closing = time.Time{}, false
	if w.closed {
		w.pin = 0
	}
}

// used counts the series of the block that have readings.
func (b *block) used() int {
	n := 0
	for i := range b.accs {
		if b.accs[i].count > 0 {
			n++
		}
	}
	return n
}

// windowName returns the start of a window, in ns since 1970, as logs and notes show it.
func windowName(start int64) string { return time.Unix(0, start).UTC().Format(time.RFC3339) }
