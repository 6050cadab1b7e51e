package influx

import (
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/wide"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// extentGap is how many records that do not belong to a window an extent may take in: reading them again is
	// cheaper than another extent.
	extentGap  = 10_000
	maxExtents = 16
)

// extent is a row of records of the journal.
type extent struct{ first, last uint64 }

// extents are where in the journal a window's events are: every one of them lies in an extent, in order.
type extents []extent

// add takes in a record. Records come in order; one that is not behind the last was taken in before.
func (x extents) add(seq uint64) extents {
	n := len(x)
	if n > 0 {
		last := &x[n-1]
		if seq <= last.last {
			return x
		}
		if seq-last.last <= extentGap {
			last.last = seq
			return x
		}
	}
	x = append(x, extent{seq, seq})
	if len(x) <= maxExtents {
		return x
	}
	closest := 1
	for i := 2; i < len(x); i++ {
		if x[i].first-x[i-1].last < x[closest].first-x[closest-1].last {
			closest = i
		}
	}
	x[closest-1].last = x[closest].last
	return slices.Delete(x, closest, closest+1)
}

// last is the last record taken in, 0 if there is none.
func (x extents) last() uint64 {
	if len(x) == 0 {
		return 0
	}
	return x[len(x)-1].last
}

// before returns what lies before seq.
func (x extents) before(seq uint64) extents {
	var cut extents
	for _, e := range x {
		if e.first < seq {
			cut = append(cut, extent{e.first, min(e.last, seq-1)})
		}
	}
	return cut
}

// window is a span of time whose readings make one row per set of tags.
type window struct {
	start, end int64 // ns: [start, end)
	records    extents
	indexed    uint64 // records.last() as the index has it
	// hold is the last record that rows of this window may have been made of. Until the fold has come there again,
	// after a restart, the window is not written: a row is never replaced by one made of fewer readings.
	hold uint64
	// pin is the first record that rows and index do not have yet, 0 if there is none: the position stays before it. An
	// open window keeps the pin at its first record, so that it is counted anew after a restart.
	pin uint64
	// closed: complete as far as anybody knows. Events that come still are late.
	closed bool
	// frozen: some of its events are not in the journal any more, and not here either. Its rows are left as they are.
	frozen bool
	dirty  bool
	// touched and used are when and with which record the last event came.
	touched time.Time
	used    uint64
	events  uint64            // counted
	blocks  map[string]*block // by relay
}

// block holds one relay's part of a window, by lookup.Series.Index of relay. A relay that is known anew since
// has other numbers, so the block keeps the one that it was made with.
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

// add takes a reading. The order of the journal is the order of the sums, so that counting again gives the same bits.
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
