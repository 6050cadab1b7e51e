package projector

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/journal"
)

const (
	// measureEvery is how often a runner's lag is measured.
	measureEvery = time.Second
	// growthOver is the time over which the journal's growth is measured.
	growthOver = time.Minute
	// lossNear is how near a loss is when the log begins to warn of it, unless the journal reaches
	// less than two hours back: then the log warns when half of what it reaches back is left.
	lossNear = time.Hour
)

// lagMeter notes once a second how far the journal is ahead of a runner, also while an Apply takes
// long or a back-off lasts.
type lagMeter struct {
	journal  Source
	progress *progress
	log      *slog.Logger

	growth growth
	state  journal.State // the last that the journal told
	seq    uint64        // a record whose time was looked up
	time   time.Time
	warned rate.Sometimes
}

// run measures until ctx ends.
func (l *lagMeter) run(ctx context.Context) {
	l.warned = rate.Sometimes{First: 1, Interval: time.Minute}
	t := time.NewTicker(measureEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.measure(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// measure brings the status up to date.
func (l *lagMeter) measure(ctx context.Context) {
	p := l.progress
	if state, err := stateSoon(ctx, l.journal); err == nil {
		l.state = state
		l.growth.note(time.Now(), state.LastSeq)
		p.journal.Store(&state)
		p.end.Store(state.LastSeq)
	}
	backlog, oldest := p.left()
	p.mu.Lock()
	applied, since := p.status.Applied, p.oldest
	p.mu.Unlock()
	var loss *float64
	if backlog > 0 || applied < l.state.LastSeq {
		own := backlog == 0
		if own {
			oldest = applied + 1
		}
		if !own || since.IsZero() {
			since = l.madeAt(ctx, oldest)
		}
		if own {
			p.foundOldest(applied, since)
		}
		loss = l.growth.secondsToLoss(l.state, oldest, since, p.now())
	}
	var lag uint64
	var waits bool
	p.update(func(s *Status) {
		p.settle(s, max(l.state.LastSeq, s.Applied)-s.Applied)
		s.Backlog, s.SecondsToLoss = backlog, loss
		lag = s.Lag
		waits = backlog > 0 || lag > 0 && s.LastError != "" || lag > p.batch
	})
	if loss == nil || !waits || *loss >= lossNear.Seconds() {
		return
	}
	if waited := p.now().Sub(since).Seconds(); *loss >= waited {
		return // a journal that holds little is not half used up yet
	}
	l.warned.Do(func() {
		l.log.Warn("the journal will drop records before they are applied: bring the sink back, or raise --journal-retention and --journal-max-bytes",
			"in", time.Duration(*loss*float64(time.Second)).Round(time.Second), "waiting", lag+backlog)
	})
}

// madeAt looks up when the record seq was made, or the next that is there; zero if the journal does
// not tell.
func (l *lagMeter) madeAt(ctx context.Context, seq uint64) time.Time {
	if seq < l.state.FirstSeq {
		return l.state.FirstTime
	}
	if l.seq == seq {
		return l.time
	}
	ctx, cancel := context.WithTimeout(ctx, measureEvery)
	defer cancel()
	errFound := errors.New("found")
	err := l.journal.Range(ctx, journal.Span{First: seq, Last: l.state.LastSeq}, func(records []journal.Record, _ *journal.GapError) error {
		if t := timeOf(records); t != 0 {
			l.seq, l.time = seq, time.Unix(0, t)
			return errFound
		}
		return nil
	})
	if err != errFound {
		return l.state.FirstTime // not newer than that
	}
	return l.time
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

// secondsToLoss is when the journal drops the record seq, which was made at since (zero: not
// known): by its age, or because what came since fills the journal at the rate at which it grows.
// It is nil if neither is to be expected.
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
