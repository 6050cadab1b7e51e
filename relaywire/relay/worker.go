package relay

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// Info is one collector and its counters.
type Info struct {
	// Name and Tags are those that the collector was added with.
	Name string
	Tags []string
	// Interval is how often the collector is sampled now; 0 if only polls collect it.
	Interval time.Duration
	// OverriddenUntil is when an override by the server ends; zero if there is none.
	OverriddenUntil time.Time
	// Values are the collector's last answer, by the stat's name. Answered is the time of that
	// answer.
	Values   map[string]float64
	Answered time.Time
	// Units are what the values are in, by the stat's name, as far as WithUnits says.
	Units map[string]string
	// Collections counts the calls of Collect, Panics the calls that panicked.
	Collections, Panics uint64
	// Timeouts counts the polls that were answered without the collector because it took too long.
	Timeouts uint64
	// NotFinite counts values, and BadNames stats, that were left out.
	NotFinite, BadNames uint64
	// Running is when the running call of Collect began; zero if none is running.
	Running time.Time
	// LastError is the newest panic or timeout; nil if there was none.
	LastError error
}

// worker owns one collector. Only its goroutine calls Collect and unit, and uses gathered and asked.
type worker struct {
	name     string
	tags     []string
	c        Collector
	interval time.Duration // 0: only when polled
	reduce   Reduction
	unit     func(stat string) string // nil: no stat has a known unit
	timeout  time.Duration
	log      *slog.Logger

	polls chan request  // buffered by one: a second poll after a stuck one is not queued
	wake  chan struct{} // buffered by one: the control fields below have changed
	stop  chan struct{} // closed when the collector is removed
	ended chan struct{} // closed when the goroutine has ended
	onEnd func()        // called just before ended is closed; set before run
	// onUnits is called with units that have become known, without mu; set before run.
	onUnits func([]relaywire.UnitItem)

	gathered  map[string]*gathered
	asked     map[string]bool // the stats whose units were asked for
	due       time.Time       // of the next sample
	answering *request        // nil while none is

	mu      sync.Mutex // guards the fields below; never held while Collect runs
	flushed bool       // discard gathered before the next step
	every   time.Duration
	until   time.Time // of the override by every
	info    Info      // the counters, Values, Answered, Running, LastError
	warned  bool      // about the running call of Collect
	units   []relaywire.UnitItem
}

// request asks a worker for its readings. A request whose context has ended gets no answer.
type request struct {
	ctx   context.Context
	index int
	reply chan<- reply // has room for every reply
}

type reply struct {
	index int
	items []relaywire.GotItem
}

func newWorker(name string, tags []string, c Collector, timeout time.Duration, log *slog.Logger) *worker {
	w := &worker{
		name: name, tags: tags, c: c, timeout: timeout, log: log.With("collector", name),
		polls: make(chan request, 1), wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		gathered: map[string]*gathered{}, asked: map[string]bool{},
	}
	var s sampled
	if w.c, s, w.unit = unwrap(c); s.interval > 0 {
		w.interval, w.reduce, w.due = s.interval, s.reduce, time.Now()
	}
	return w
}

// run serves polls and takes samples until stop is closed.
func (w *worker) run() {
	defer func() {
		if r := w.answering; r != nil {
			w.answering = nil
			r.reply <- reply{index: r.index}
		}
		select {
		case <-w.stop:
			w.onEnd()
			close(w.ended)
		default:
			// Collect called runtime.Goexit, as a test's FailNow does. This goroutine cannot be
			// saved, so a new one serves the collector.
			go w.run()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.step()
		if w.due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(w.due))
		}
		select {
		case <-w.stop:
			return
		case <-w.wake:
		case <-timer.C:
			// There is never a burst: samples that were missed while Collect took long are not
			// taken later.
			if interval := w.currentInterval(); interval > 0 {
				w.due = time.Now().Add(interval)
				w.sample()
			}
		case r := <-w.polls:
			if r.ctx.Err() == nil {
				w.answering = &r
				items := w.answer()
				w.answering = nil
				r.reply <- reply{r.index, items}
			}
		}
	}
}

// step applies the flushes and overrides that came since the last step.
func (w *worker) step() {
	w.mu.Lock()
	flushed := w.flushed
	w.flushed = false
	w.mu.Unlock()
	if flushed {
		clear(w.gathered)
	}
	switch interval := w.currentInterval(); {
	case interval == 0:
		// Only an override had this collector sampled. Its leftover samples would be sent as if
		// they were new.
		w.due = time.Time{}
		clear(w.gathered)
	case w.due.IsZero() || time.Until(w.due) > interval:
		w.due = time.Now()
	}
}

func (w *worker) currentInterval() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.until) {
		return w.every
	}
	return w.interval
}

// overridden is the interval of the override that holds; 0 if none does.
func (w *worker) overridden() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.until) {
		return w.every
	}
	return 0
}

// flush discards the gathered samples. It does not wait for the collector.
func (w *worker) flush() {
	w.mu.Lock()
	w.flushed = true
	w.mu.Unlock()
	w.poke()
}

// override samples every interval for d from now on. It replaces any earlier override.
func (w *worker) override(interval, d time.Duration) {
	w.mu.Lock()
	w.every, w.until = max(interval, MinInterval), time.Now().Add(d)
	w.mu.Unlock()
	w.poke()
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// request hands r to the collector's goroutine. It returns false when Collect is stuck or another
// request is already waiting.
func (w *worker) request(r request) bool {
	w.mu.Lock()
	stuck := !w.info.Running.IsZero() && time.Since(w.info.Running) >= w.timeout
	w.mu.Unlock()
	if !stuck {
		select {
		case w.polls <- r:
			return true
		default:
		}
	}
	w.late()
	return false
}

// late counts a poll that is answered without this collector. It logs once per call of Collect.
func (w *worker) late() {
	w.mu.Lock()
	w.info.Timeouts++
	w.info.LastError = &Error{Op: "collect", Subject: w.name, Err: ErrStuck}
	warn := !w.warned
	w.warned = true
	w.mu.Unlock()
	if warn {
		w.log.Warn("relay: this collector takes too long; polls are answered without it until it returns", "timeout", w.timeout)
	}
}

// snapshot returns a copy that the caller may keep.
func (w *worker) snapshot() Info {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.info
	i.Name, i.Tags, i.Interval, i.Values = w.name, slices.Clone(w.tags), w.interval, maps.Clone(w.info.Values)
	i.Units = make(map[string]string, len(w.units))
	for _, u := range w.units {
		i.Units[u.Stat] = u.Unit
	}
	if time.Now().Before(w.until) {
		i.Interval, i.OverriddenUntil = w.every, w.until
	}
	return i
}

func (w *worker) stopped() bool  { return isClosed(w.stop) }
func (w *worker) hasEnded() bool { return isClosed(w.ended) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
