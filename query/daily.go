package query

import (
	"fmt"
	"net/http"
	"time"
)

// daySlot gathers what happened at one time of the day.
type daySlot struct {
	values      int
	total       float64 // of the values
	sum, weight float64 // of the readings
	unweighted  bool    // some value does not tell its readings
}

func (d *daySlot) add(sl slot) {
	d.values++
	d.total += sl.value
	d.sum += sl.sum
	d.weight += sl.weight
	d.unweighted = d.unweighted || sl.weight == 0
}

// value is exact over the readings where their numbers are known, else the average of the days.
func (d *daySlot) value() float64 {
	if d.unweighted {
		return d.total / float64(d.values)
	}
	return d.sum / d.weight
}

// dailyStat is an element of 0.2's answer.
type dailyStat struct {
	Time  string  `json:"time"`
	Value float64 `json:"value"`
}

// daily answers with one value for each time of the day, averaged over the days: for mean that of all their
// readings, for any other verb the average of its values on each day.
func (s *Server) daily(w http.ResponseWriter, r *http.Request, p params) error {
	name, sel, err := s.selection(r, p, daysDefault)
	if err != nil {
		return err
	}
	step := s.o.AggregateInterval
	from, to := s.span(sel, step)
	slots, err := s.history(r.Context(), name, sel, from, to, step)
	if err != nil {
		return err
	}
	if len(slots) == 0 && (!sel.fill || s.o.Compat == Compat02) {
		return s.nothing("no window of %s matches between %s and %s ago", name, ago(sel.start), ago(sel.stop))
	}
	day := foldDays(slots, step, s.o.Location)

	answer := make(map[string]float64, len(day)) // encoding/json sorts the names, which sorts the times
	for minute, d := range day {
		if v := d.value(); finite(v) {
			answer[clock(minute)] = v
		}
	}
	list := []dailyStat{}
	for minute := 0; minute < minutesADay; minute += int(step / time.Minute) {
		at := clock(minute)
		if _, ok := answer[at]; !ok && sel.fill {
			answer[at] = sel.fillValue
		}
		if v, ok := answer[at]; ok {
			list = append(list, dailyStat{at, v})
		}
	}
	if s.o.Compat == Compat02 {
		s.writeJSON(w, http.StatusOK, list)
		return nil
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

const minutesADay = 24 * 60

// foldDays gathers the slots by what the clock on the wall showed when they began, so that a day of 23 or 25
// hours needs no rule of its own: the hour that is missing has one day less, the one that comes twice has
// one value more. The keys are minutes since midnight, multiples of step.
func foldDays(slots []slot, step time.Duration, loc *time.Location) map[int]*daySlot {
	minutes := int(step / time.Minute)
	day := make(map[int]*daySlot)
	for _, sl := range slots {
		h, m, _ := time.Unix(0, sl.time).In(loc).Clock()
		at := (h*60 + m) / minutes * minutes
		if day[at] == nil {
			day[at] = &daySlot{}
		}
		day[at].add(sl)
	}
	return day
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
