package ingest

import (
	"math"
	"slices"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxPatience bounds the time between two polls of a relay that answers none, unless the
	// interval is longer: see patience.
	maxPatience = 30 * time.Second
	// worrying is how long a connected relay may leave polls unanswered before the log says so.
	worrying = 3 * time.Minute
	// afterFirst is how long after a collector's first poll, which is out of phase, a regular one
	// is left out; half an interval, if that is shorter. The answer to the first would hardly be
	// there, and the collector would report the same again.
	afterFirst = time.Second
	// restful is how far away the next poll has to be for the session to give its stack back, which
	// costs about 1 µs, instead of keeping it for the next answer.
	restful = 2 * time.Second
)

// never is a time that does not come.
const never = math.MaxInt64

// pollAt has the relay polled when due, or earlier if that was asked for before. It needs mu and a
// connection.
func (r *relay) pollAt(due int64) {
	if due >= r.polling.due {
		return
	}
	r.polling.due = due
	r.env.schedule.set(r, due)
}

// poll is pollLocked for a goroutine that does not have mu.
func (r *relay) poll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pollLocked()
}

// pollLocked asks the relay for what is due, drops what the relay did not add again, and schedules
// the next poll. Polling too early does no harm. It needs mu.
func (r *relay) pollLocked() {
	if r.conn == nil {
		return
	}
	p := &r.polling
	p.due = never
	now := r.env.tick()
	if p.confirmBy != 0 && now >= p.confirmBy {
		r.dropUnconfirmed()
	}
	intervals := r.intervals(now)
	// Enough for most relays: these need no memory of their own.
	var few [16]*collector
	var names [16]string
	var line [512]byte
	due, regular := r.due(few[:0], intervals, now)
	p.polledAt = now
	switch {
	case len(due) == 0:
	case now < r.patience():
		if regular {
			r.counts.Skipped++
			r.env.m.skipped.Inc()
			postpone(due, intervals, now)
		}
	default:
		r.countUnanswered(now)
		if !r.conn.send(relaywire.AppendGet(r.appendKept(line[:0]), appendNames(names[:0], due))) {
			return // the session is ending
		}
		p.asked = now
		r.counts.Polls++
		r.env.m.polls.Inc()
		for _, c := range due {
			if c.soon != 0 && !regular {
				c.firstAt = now
			}
			c.soon = 0
		}
	}
	r.pollAt(r.next(intervals))
}

// due appends the collectors that are to be polled now. It reports whether the regular poll of one
// of them is due. It needs mu.
func (r *relay) due(list []*collector, intervals intervals, now int64) (due []*collector, regular bool) {
	next := instants{after: r.polling.polledAt, phase: r.phase}
	for _, c := range r.collectors.list {
		interval := intervals.of(c.name.Value())
		due := next.of(interval) <= now
		if due && c.firstAt != 0 {
			due = now-c.firstAt >= int64(min(afterFirst, interval/2))
			c.firstAt = 0
		}
		if due || c.soon != 0 && c.soon <= now {
			list = append(list, c)
		}
		regular = regular || due
	}
	return list, regular
}

func appendNames(names []string, list []*collector) []string {
	for _, c := range list {
		names = append(names, c.name.Value())
	}
	return names
}

// countUnanswered counts the newest poll as unanswered if no answer to it has come. It needs mu.
func (r *relay) countUnanswered(now int64) {
	p := &r.polling
	if p.asked == 0 {
		p.silentSince = now
		return
	}
	r.counts.Unanswered++
	r.env.m.unanswered.Inc()
	if silent := time.Duration(now - p.silentSince); silent >= worrying {
		r.env.log.WarnRarely("unanswered", "relay is connected and does not answer polls",
			"relay", r.id, "for", silent.Round(time.Second))
	}
}

// postpone keeps the skipped poll due for those of the collectors whose next one is far: they are
// polled with the answer that is waited for, or when it is given up. It needs mu.
func postpone(list []*collector, intervals intervals, now int64) {
	for _, c := range list {
		if intervals.of(c.name.Value()) > maxPatience {
			c.soon = now
		}
	}
}

// patience returns until when the answer to the newest poll may still be under way, so that another
// poll would only wait after it; 0 if none is awaited. That is four times as long as the last
// answer took, within limits: a slow relay is polled as fast as it answers. And it is a seventh of
// the time for which no poll was answered, maxPatience at most: a stuck relay does not find a pile
// of polls. A poll that is older has no answer: relays that have nothing to say may say nothing. It
// needs mu.
func (r *relay) patience() int64 {
	p := &r.polling
	if p.asked == 0 {
		return 0
	}
	slow := min(4*p.took, max(3*int64(r.env.PollInterval), 4*int64(maxPatience)))
	stuck := min((p.asked-p.silentSince)/7, int64(maxPatience))
	return p.asked + max(slow, stuck)
}

// dropUnconfirmed drops the collectors that were not added again. It needs mu.
func (r *relay) dropUnconfirmed() {
	r.polling.confirmBy = 0
	for _, c := range slices.Clone(r.collectors.list) {
		if c.unconfirmed {
			r.env.m.dropped.Inc()
			r.drop(c, "not added again after reconnecting")
		}
	}
}

// answered notes that a line of readings has come. It needs mu.
func (r *relay) answered() {
	p := &r.polling
	if p.asked == 0 {
		return
	}
	now := r.env.tick()
	p.took = max(now-p.asked, 1)
	p.asked = 0
	r.env.m.latency.Observe(time.Duration(p.took).Seconds())
	for _, c := range r.collectors.list {
		if c.soon != 0 {
			r.pollAt(max(c.soon, now))
			break
		}
	}
}

// rests reports whether the next poll is far enough away for the session to wait on a small stack.
func (r *relay) rests() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.polling.due-r.env.tick() > int64(restful)
}

// awaiting reports whether a poll is unanswered.
func (r *relay) awaiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.polling.asked != 0
}

// next returns when the relay has to be polled again. It needs mu.
func (r *relay) next(intervals intervals) int64 {
	next := int64(never)
	if r.polling.confirmBy != 0 {
		next = r.polling.confirmBy
	}
	patience := r.patience()
	regular := instants{after: r.polling.polledAt, phase: r.phase}
	for _, c := range r.collectors.list {
		next = min(next, r.env.schedule.together(regular.of(intervals.of(c.name.Value()))))
		if c.soon != 0 {
			next = min(next, max(c.soon, patience))
		}
	}
	for _, o := range intervals.overrides {
		next = min(next, o.ends) // intervals change then
	}
	return next
}

// instants are the first instants of a phase after a time, by the interval. Nearly always all
// collectors of a relay have the same interval, so the last answer is kept.
type instants struct {
	after    int64
	phase    uint64
	interval time.Duration
	last     int64
}

func (i *instants) of(interval time.Duration) int64 {
	if interval != i.interval {
		i.interval, i.last = interval, after(i.after, interval, i.phase)
	}
	return i.last
}

// after returns the first instant after t that belongs to the phase: the instants are interval
// apart, and those of an interval that divides another are among them, so that what can be polled
// together is.
func after(t int64, interval time.Duration, phase uint64) int64 {
	i := int64(interval)
	offset := int64(phase % uint64(i))
	return t + i - ((t-offset)%i+i)%i
}
