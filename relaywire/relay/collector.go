package relay

import (
	"math"
	"slices"
	"time"
)

// Collector yields the current values of some stats. Each collector is called by one goroutine, so
// Collect need not be safe for concurrent use unless the program calls it elsewhere or adds the
// collector twice. The relay owns the map after Collect has returned it.
type Collector interface {
	// Collect returns a value for each stat, by the stat's name. The empty name stands for the
	// collector's own name. Values that are not finite and stats whose names the protocol cannot
	// carry are left out and counted. An empty map is no reading.
	Collect() map[string]float64
}

// CollectorFunc is a function that implements Collector.
type CollectorFunc func() map[string]float64

// Collect calls f.
func (f CollectorFunc) Collect() map[string]float64 { return f() }

// NewPointCollector returns a collector with one stat that has the collector's name: added as
// cpu_used, the collector answers cpu_used-cpu_used:25.5.
func NewPointCollector(value func() float64) Collector {
	return CollectorFunc(func() map[string]float64 { return map[string]float64{"": value()} })
}

// NewSetCollector returns a collector with any number of stats by name: added as disk, the
// collector answers disk-sda:50,disk-sdb:75.
func NewSetCollector(values func() map[string]float64) Collector { return CollectorFunc(values) }

// Sample returns a collector that is sampled every interval, from the moment it is added, whether
// the server polls or not. A poll gets the samples since the last poll, reduced to one value a stat
// by reduce; if there are none, the poll takes a sample at once. A flush of the server discards the
// samples, and an override changes the interval for a while. The interval is at least MinInterval.
func Sample(c Collector, interval time.Duration, reduce Reduction) Collector {
	return sampled{Collector: c, interval: max(interval, MinInterval), reduce: reduce}
}

// MinInterval is the shortest interval at which a collector is sampled, also by an override.
const MinInterval = 10 * time.Millisecond

type sampled struct {
	Collector
	interval time.Duration
	reduce   Reduction
}

// Reduction makes one value of the samples of a stat. The zero Reduction is Last().
type Reduction struct {
	name   string
	window int // of a running mean, else 0
}

// Last takes the newest sample since the last poll.
func Last() Reduction { return Reduction{name: "last"} }

// Mean takes the mean of the samples since the last poll.
func Mean() Reduction { return Reduction{name: "mean"} }

// Max takes the largest sample since the last poll.
func Max() Reduction { return Reduction{name: "max"} }

// RunningMean takes the mean of the newest n samples, whether they have been polled before or not;
// n is at least 1. RunningMean is the only reduction that a poll does not start again; only a flush
// does.
func RunningMean(n int) Reduction { return Reduction{name: "running mean", window: max(n, 1)} }

// String returns the reduction's name.
func (r Reduction) String() string {
	if r.name == "" {
		return "last"
	}
	return r.name
}

// gathered holds the samples of one stat. It belongs to the collector's goroutine.
type gathered struct {
	last, sum, min, max float64
	small               float64 // the sum times wide
	n                   int     // samples since the last poll
	fresh               bool    // a sample came since the last poll
	ring                []float64
	next                int
}

func (g *gathered) add(r Reduction, v float64) {
	if g.n == 0 {
		g.sum, g.small, g.min, g.max = 0, 0, math.Inf(1), math.Inf(-1)
	}
	g.n++
	g.fresh = true
	g.last, g.sum, g.small = v, g.sum+v, g.small+v*wide
	g.min, g.max = math.Min(g.min, v), math.Max(g.max, v)
	if r.window == 0 {
		return
	}
	if len(g.ring) < r.window {
		g.ring = append(g.ring, v)
		return
	}
	g.ring[g.next] = v
	g.next = (g.next + 1) % r.window
}

// take returns the reduced value and starts counting samples for the next poll. ok is false if
// there was no sample since the last take.
func (g *gathered) take(r Reduction) (v float64, ok bool) {
	if g.n == 0 {
		return 0, false
	}
	switch r.String() {
	case "mean":
		v = mean(g.sum, g.small, g.n, g.min, g.max)
	case "max":
		v = g.max
	case "running mean":
		// The ring is summed again each time, because a running sum would drift.
		sum, small := 0.0, 0.0
		for _, x := range g.ring {
			sum, small = sum+x, small+x*wide
		}
		v = mean(sum, small, len(g.ring), slices.Min(g.ring), slices.Max(g.ring))
	default:
		v = g.last
	}
	g.n = 0
	return v, true
}

// wide scales a sum of float64s down so that the sum does not overflow.
const wide = 0x1p-64

// mean is sum/n, or, if sum has overflowed, the mean computed from small. The result is between low
// and high.
func mean(sum, small float64, n int, low, high float64) float64 {
	v := sum / float64(n)
	if math.IsInf(v, 0) || math.IsNaN(v) {
		v = small / float64(n) / wide
	}
	switch {
	case v < low:
		return low
	case v > high:
		return high
	}
	return v
}

// sortedKeys returns the keys of m sorted, so that the stats of a set keep their order from poll to
// poll.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
