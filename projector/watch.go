package projector

import (
	"context"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/journal"
)

const (
	// growthOver is the time over which the journal's growth is measured.
	growthOver = time.Minute
	// lossNear is how near a loss is when the log begins to warn of it.
	lossNear = time.Hour
)

// watch looks once a second how far the journal is, also while an Apply takes long or a back-off lasts.
func (r *Runner) watch() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	w := watcher{warned: rate.Sometimes{First: 1, Interval: time.Minute}}
	for {
		select {
		case <-t.C:
			w.look(r)
		case <-r.ctx.Done():
			return
		}
	}
}

// watcher is what watch remembers from one look to the next.
type watcher struct {
	growth growth
	state  journal.State // the last that the journal told
	seq    uint64        // a record whose time was looked up
	time   time.Time
	warned rate.Sometimes
}

// look brings the status up to date.
func (w *watcher) look(r *Runner) {
	if state, err := r.state(); err == nil {
		w.state = state
		w.growth.note(time.Now(), state.LastSeq)
		r.knownEnd.Store(state.LastSeq)
	}
	backlog, oldest := r.backlog()
	r.mu.Lock()
	searching, applied, since := r.o.Start.from == fromTime && r.status.Applied == 0, r.status.Applied, r.oldest
	r.mu.Unlock()
	if searching {
		return // the reader knows what lies before it, and belongs to the runner's goroutine
	}
	var loss *float64
	if backlog > 0 || applied < w.state.LastSeq {
		own := backlog == 0
		if own {
			oldest = applied + 1
		}
		if !own || since.IsZero() {
			since = w.timeOf(r, oldest)
		}
		if own {
			r.foundOldest(applied, since)
		}
		loss = w.growth.secondsToLoss(w.state, oldest, since, r.now())
	}
	var lag uint64
	var waits bool
	r.update(func(s *Status) {
		r.settle(s, max(w.state.LastSeq, s.Applied)-s.Applied)
		s.Backlog, s.SecondsToLoss = backlog, loss
		lag = s.Lag
		waits = backlog > 0 || lag > 0 && s.LastError != "" || lag > uint64(r.o.BatchRecords)
	})
	if loss == nil || *loss >= lossNear.Seconds() || !waits {
		return
	}
	w.warned.Do(func() {
		r.log.Warn("the journal will drop records before they are applied: bring the sink back, or raise --journal-retention and --journal-max-bytes",
			"in", time.Duration(*loss*float64(time.Second)).Round(time.Second), "waiting", lag+backlog)
	})
}

// timeOf finds out when the record seq was made; zero if the journal does not tell.
func (w *watcher) timeOf(r *Runner, seq uint64) time.Time {
	if seq < w.state.FirstSeq {
		return w.state.FirstTime
	}
	if w.seq == seq {
		return w.time
	}
	ctx, cancel := context.WithTimeout(r.ctx, tickEvery)
	defer cancel()
	t, ok := recordTime(ctx, r.o.Journal, seq)
	if !ok {
		return w.state.FirstTime // not newer than that
	}
	w.seq, w.time = seq, t
	return t
}

// recordTime reads the time of the record seq, or of the next that is there.
func recordTime(ctx context.Context, j Source, seq uint64) (time.Time, bool) {
	reader, err := j.ReadFrom(seq)
	if err != nil {
		return time.Time{}, false
	}
	defer reader.Close() // it has nothing to lose
	for range 8 {        // gaps and records that cannot be read
		records, err := reader.Read(ctx, 1)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			continue
		}
		if t := timeOf(records); t != 0 {
			return time.Unix(0, t), true
		}
	}
	return time.Time{}, false
}

// timeOf is the time of the first of the records that has one, ns since 1970; 0 if none has.
func timeOf(records []journal.Record) int64 {
	for i := range records {
		switch rec := &records[i]; {
		case rec.Event != nil:
			return rec.Event.Time
		case rec.Relay != nil:
			return rec.Relay.Time
		}
	}
	return 0
}

// growth measures how fast the journal grows.
type growth struct{ samples []sample }

type sample struct {
	at   time.Time
	last uint64
}

// note takes the journal's last sequence number.
func (g *growth) note(now time.Time, last uint64) {
	if n := len(g.samples); n > 0 && last < g.samples[n-1].last {
		g.samples = g.samples[:0] // it lost its end
	}
	g.samples = append(g.samples, sample{now, last})
	old := 0
	for now.Sub(g.samples[old].at) > growthOver {
		old++
	}
	g.samples = append(g.samples[:0], g.samples[old:]...)
}

// perSecond is how many records come a second.
func (g *growth) perSecond() float64 {
	if len(g.samples) < 2 {
		return 0
	}
	first, last := g.samples[0], g.samples[len(g.samples)-1]
	return float64(last.last-first.last) / last.at.Sub(first.at).Seconds()
}

// secondsToLoss is when the journal drops the record seq, which was made at since (zero: not known): by its age, or
// because what came since fills the journal at the rate at which it grows. It is nil if neither is to be expected.
func (g *growth) secondsToLoss(s journal.State, seq uint64, since time.Time, now time.Time) *float64 {
	if seq < s.FirstSeq { // gone; the oldest that is there is the next
		seq, since = s.FirstSeq, s.FirstTime
	}
	left := math.Inf(1)
	if s.Retention > 0 && !since.IsZero() {
		left = since.Add(s.Retention).Sub(now).Seconds()
	}
	if rate := g.perSecond(); s.MaxBytes > 0 && s.Messages > 0 && s.Bytes > 0 && rate > 0 {
		size := float64(s.Bytes) / float64(s.Messages)
		room := float64(s.MaxBytes) - size*float64(s.LastSeq+1-min(seq, s.LastSeq))
		left = min(left, room/(size*rate))
	}
	if math.IsInf(left, 1) {
		return nil
	}
	left = max(0, left)
	return &left
}
