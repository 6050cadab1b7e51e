package query

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/wide"
)

// verb is how many readings become one value.
type verb string

// verbNone is allowed on /latest only: the readings as they are.
const verbNone verb = "none"

// verbs is the allow-list; all are functions of InfluxQL too, and mean here what they mean there.
func verbs() []verb {
	return []verb{"mean", "min", "max", "sum", "count", "first", "last", "median", "mode", "spread", "stddev"}
}

// parseVerb reads a verb: one of verbs, or of more.
func parseVerb(v string, more ...verb) (verb, error) {
	if v == "" {
		return "mean", nil
	}
	allowed := append(verbs(), more...)
	if !slices.Contains(allowed, verb(v)) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		return "", badRequest("verb must be one of %s%s", strings.Join(names, ", "), didYouMean(v, names))
	}
	return verb(v), nil
}

// sample is a value and when it was read.
type sample struct {
	time  int64
	value float64
}

// combiner makes one value of many, one at a time; only median and mode keep them.
type combiner struct {
	verb    verb
	n       int
	sum     sum
	min     float64
	max     float64
	first   sample
	last    sample
	welford welford
	small   welford // of the values times small
	kept    []sample
}

func (c *combiner) add(s sample) {
	if c.n == 0 {
		c.min, c.max, c.first, c.last = s.value, s.value, s, s
	}
	c.n++
	switch c.verb {
	case "mean", "sum":
		c.sum.add(s.value)
		c.min, c.max = min(c.min, s.value), max(c.max, s.value)
	case "min", "max", "spread":
		c.min, c.max = min(c.min, s.value), max(c.max, s.value)
	case "first": // of several at one time the greatest, as InfluxDB does
		if s.time < c.first.time || s.time == c.first.time && s.value > c.first.value {
			c.first = s
		}
	case "stddev":
		c.welford.add(s.value)
		c.small.add(s.value * small)
	case "median", "mode":
		c.kept = append(c.kept, s)
	}
	if s.time > c.last.time || s.time == c.last.time && s.value > c.last.value {
		c.last = s // for every verb: the newest time is the answer's
	}
}

// result returns false when there is no value: nothing was added, stddev of one, or more than a
// float64 holds.
func (c *combiner) result() (float64, bool) {
	if c.n == 0 {
		return 0, false
	}
	var v float64
	switch c.verb {
	case "mean":
		v = wide.Clamp(c.sum.mean(float64(c.n)), c.min, c.max)
	case "sum":
		v = c.sum.value()
	case "min":
		v = c.min
	case "max":
		v = c.max
	case "count":
		v = float64(c.n)
	case "first":
		v = c.first.value
	case "last":
		v = c.last.value
	case "median":
		v = median(c.kept)
	case "mode":
		v = mode(c.kept)
	case "spread":
		v = c.max - c.min
	case "stddev":
		if v = c.welford.stddev(); !finite(v) {
			v = c.small.stddev() / small
		}
	}
	return v, finite(v)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// median of an even number is the mean of the middle two.
func median(s []sample) float64 {
	slices.SortFunc(s, func(a, b sample) int { return cmp.Compare(a.value, b.value) })
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid].value
	}
	lo, hi := s[mid-1].value, s[mid].value
	if mid := lo + (hi-lo)/2; finite(mid) {
		return mid
	}
	return lo/2 + hi/2
}

// mode is the most frequent value. Of several equally frequent values it is the one that was read
// first, and of these the smallest.
func mode(s []sample) float64 {
	slices.SortFunc(s, func(a, b sample) int {
		return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.time, b.time))
	})
	best, bestN := s[0], 0
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && s[j].value == s[i].value {
			j++
		}
		if n := j - i; n > bestN || n == bestN && s[i].time < best.time {
			best, bestN = s[i], n
		}
		i = j
	}
	return best.value
}

// sum adds with Neumaier's compensation, so that the order, which an index in memory does not keep,
// does not show in the last digits. When the sum leaves the range of float64 it goes on scaled, as
// in package wide.
type sum struct {
	total, lost float64
	scaled      bool
}

func (s *sum) add(v float64) {
	if !s.scaled && math.IsInf(s.total+v, 0) {
		s.total, s.lost, s.scaled = s.total*wide.Scale, s.lost*wide.Scale, true
	}
	if s.scaled {
		v *= wide.Scale
	}
	t := s.total + v
	if math.Abs(s.total) >= math.Abs(v) {
		s.lost += (s.total - t) + v
	} else {
		s.lost += (v - t) + s.total
	}
	s.total = t
}

func (s *sum) value() float64 { return wide.Sum(s.total+s.lost, s.scaled) }

func (s *sum) mean(n float64) float64 { return wide.Sum((s.total+s.lost)/n, s.scaled) }

// small keeps the squares of all float64s in their range.
const small = 0x1p-540

// welford is the variance in one pass (B. P. Welford, 1962).
type welford struct {
	n        int
	mean, m2 float64
}

func (w *welford) add(v float64) {
	w.n++
	d := v - w.mean
	w.mean += d / float64(w.n)
	w.m2 += d * (v - w.mean)
}

// stddev is that of a sample, NaN for fewer than two values.
func (w *welford) stddev() float64 {
	if w.n < 2 {
		return math.NaN()
	}
	return math.Sqrt(w.m2 / float64(w.n-1))
}
