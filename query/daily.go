package query

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/wide"
)

// dailyStep02 is how long the slots of 0.2's /daily were, whatever the length of its windows.
const dailyStep02 = 15 * time.Minute

// daySlot gathers what happened at one time of the day.
type daySlot struct {
	values      int
	total       float64 // of the values
	sum, weight float64 // of the readings
	unweighted  bool    // some value does not tell its readings

	// The same means computed step by step, for sums that are more than a float64 holds.
	average, pooled float64
	// low and high are the least and the greatest value, which no mean of them is beyond.
	low, high float64
}

func (d *daySlot) add(sl slot) {
	if d.values == 0 {
		d.low, d.high = sl.value, sl.value
	}
	d.low, d.high = min(d.low, sl.value), max(d.high, sl.value)
	d.values++
	d.total += sl.value
	d.average = blend(d.average, sl.value, 1/float64(d.values))
	if sl.weight > 0 {
		d.pooled = blend(d.pooled, sl.value, sl.weight/(d.weight+sl.weight))
	}
	d.sum += sl.sum
	d.weight += sl.weight
	d.unweighted = d.unweighted || sl.weight == 0
}

// value is exact over the readings where their numbers are known, else the average of the days.
func (d *daySlot) value() float64 {
	exact, steps := d.sum/d.weight, d.pooled
	if d.unweighted {
		exact, steps = d.total/float64(d.values), d.average
	}
	if !finite(exact) {
		exact = steps
	}
	return wide.Clamp(exact, d.low, d.high)
}

// blend is a mean of two values, never outside of them.
func blend(a, b, shareOfB float64) float64 { return a*(1-shareOfB) + b*shareOfB }

// dailyStat is an element of 0.2's answer.
type dailyStat struct {
	Time  string  `json:"time"`
	Value float64 `json:"value"`
}

// daily answers with one value for each time of the day, averaged over the days: for mean over all
// their readings, for any other verb over its values on each day.
func (s *Server) daily(w http.ResponseWriter, r *http.Request, p params) error {
	name, sel, err := s.selection(r, p, daysDefault)
	if err != nil {
		return err
	}
	times := dayTimes{step: s.o.AggregateInterval, loc: s.o.Location}
	if s.o.Compat == Compat02 {
		times.step = dailyStep02
	}
	span := s.span(sel, times.step)
	groups, err := s.history(r.Context(), name, sel, span, times.step)
	if err != nil {
		return err
	}
	slots := groups[oneGroup]
	if len(slots) == 0 && (!sel.fill || s.o.Compat == Compat02) {
		return s.nothingOf(name, sel, true, "no window of %s matches between %s and %s ago", name, ago(sel.start), ago(sel.stop))
	}
	values := make(map[int]float64)
	for minute, d := range times.fold(slots) {
		values[minute] = d.value()
	}
	if sel.fill {
		for _, minute := range times.all(span) {
			if _, ok := values[minute]; !ok {
				values[minute] = sel.fillValue
			}
		}
	}
	maps.DeleteFunc(values, func(_ int, v float64) bool { return !finite(v) })
	if len(values) == 0 && len(slots) > 0 {
		return s.tooLarge(name, sel.verb)
	}
	if s.o.Compat == Compat02 {
		list := make([]dailyStat, 0, len(values))
		for _, minute := range slices.Sorted(maps.Keys(values)) {
			list = append(list, dailyStat{clock(minute), values[minute]})
		}
		s.writeJSON(w, http.StatusOK, list)
		return nil
	}
	answer := make(map[string]float64, len(values)) // encoding/json sorts the names, which sorts the times
	for minute, v := range values {
		answer[clock(minute)] = v
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

const minutesADay = 24 * 60

// dayTimes are the times of the day, in minutes since midnight by the clock on the wall, at which
// windows of length step begin.
type dayTimes struct {
	step time.Duration // whole minutes
	loc  *time.Location
}

// of returns the time of the day of the window that begins at t (ns): the local time of its
// beginning, also where the zone's hours do not begin with those of UTC. Windows that do not divide
// a day begin at other times each day. They are gathered in slots of their length, counted from
// midnight.
func (d dayTimes) of(t int64) int {
	hour, minute, _ := time.Unix(0, t).In(d.loc).Clock()
	at, length := hour*60+minute, d.minutes()
	if minutesADay%length != 0 && length%minutesADay != 0 {
		at -= at % length
	}
	return at
}

func (d dayTimes) minutes() int { return int(d.step / time.Minute) }

// all returns the times of a whole day at which windows of the span can begin. Where clocks change
// by a part of a window there are two series of them.
func (d dayTimes) all(span timeSpan) []int {
	var all []int
	for t := span.from; t < span.to; {
		for at := d.of(t) % d.minutes(); at < minutesADay; at += d.minutes() {
			all = append(all, at)
		}
		_, end := time.Unix(0, t).In(d.loc).ZoneBounds()
		if end.IsZero() {
			break
		}
		t = floor.To(end.UnixNano()+int64(d.step)-1, int64(d.step))
	}
	return all
}

// fold gathers the slots by what the clock on the wall showed when they began. So a day of 23 or 25
// hours needs no rule of its own: the hour that is missing has one day less, the hour that comes
// twice has one value more.
func (d dayTimes) fold(slots []slot) map[int]*daySlot {
	day := make(map[int]*daySlot)
	for _, sl := range slots {
		at := d.of(sl.time)
		if day[at] == nil {
			day[at] = &daySlot{}
		}
		day[at].add(sl)
	}
	return day
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
