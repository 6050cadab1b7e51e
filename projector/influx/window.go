package influx

import (
	"time"

	"github.com/nanopack/pulse/internal/wide"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// extentGap is how many records that do not belong to a window an extent may take in: reading
	// them again is cheaper than another extent.
	extentGap  = 10_000
	maxExtents = 16
)

// takeIn adds a record to those in which a window's events are: every event lies in a range, in
// order, and up to extentGap records that are none of its own lie between. Records come in order;
// one that is not above the last was taken in before.
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

// window is a span of time whose readings make one row per set of tags.
type window struct {
	start, end int64 // ns: [start, end)
	records    journal.Spans
	indexed    uint64 // records.last() as the index has it
	// hold is the last record that rows of this window may have been made of. Until the fold has
	// come there again, after a restart, the window is not written: a row is never replaced by one
	// made of fewer readings.
	hold uint64
	// pin is the first record that rows and index do not have yet, 0 if there is none: the position
	// stays before it. An open window keeps the pin at its first record, so that it is counted anew
	// after a restart.
	pin uint64
	// closed: complete as far as anybody knows. Events that come still are late.
	closed bool
	// frozen: some of its events are not in the journal any more, and not here either. Its rows are
	// left as they are.
	frozen bool
	dirty  bool
	// touched and used are when and with which record the last event came.
	touched time.Time
	used    uint64
	events  uint64            // counted
	blocks  map[string]*block // by relay
}

// block holds one relay's part of a window, by lookup.Series.Index of relay. A relay that is known
// anew since has other numbers, so the block keeps the one that it was made with.
type block struct {
	relay *aggRelay
	accs  []acc
	dirty bool
}

type (
	aggRelay   = lookup.Relay[relayState, struct{}]
	aggReading = lookup.Reading[relayState, struct{}]
)

// relayState is what the aggregates keep of a relay.
type relayState struct {
	window *window // the window of block: where the last event went
	block  *block
	rows   []*Series // by lookup.Set.Index
	blocks int       // in all windows
}

// acc is what a window knows of one series.
type acc struct {
	sum, min, max, last float64 // sum as package wide has it
	count               uint32
	scaled              bool
	dirty               bool
}

// add takes a reading. The order of the journal is the order of the sums, so that counting again
// gives the same bits.
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

// contains says whether an event of time t belongs to the window.
func (w *window) contains(t int64) bool { return t >= w.start && t < w.end }

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
