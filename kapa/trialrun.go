package kapa

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

const (
	// clockSlack is by how much an event's time may differ from the time at which it was stored.
	clockSlack = time.Minute
	// maxRest is the longest pause of a trial.
	maxRest = 100 * time.Millisecond
)

// trial is an evaluator whose clock is that of the readings, and which keeps what it would post.
// It is for one goroutine.
type trial struct {
	e       *Evaluator
	w       *watch
	clock   time.Time
	begun   bool      // the clock has come to From
	warm    int64     // readings from then on count
	at      int64     // where the record before stands in time
	last    int64     // the time of the last event, 0 if there is none
	pauses  int       // of all relays
	resumed time.Time // when the trial last went on after a rest
	out     Trial
}

func newTrial(ctx context.Context, past Past, a Alert, q TrialRequest) (*trial, error) {
	state, err := past.State(ctx)
	if err != nil {
		return nil, err
	}
	a.ID, a.Post = "", ""
	t := &trial{clock: q.From, resumed: time.Now(), out: Trial{Alert: a, From: q.From.UTC(), To: q.To.UTC(), Gaps: []TrialGap{}, Posts: []TrialPost{}}}
	// Of a window that begins before From all readings count, and a deadman knows who spoke.
	t.warm = q.From.Add(-time.Duration(max(a.Duration, a.Deadman))).UnixNano()
	if state.LastSeq >= state.FirstSeq && !state.FirstTime.IsZero() {
		t.out.JournalFrom = state.FirstTime.UTC().Truncate(time.Second)
		if state.FirstTime.After(q.From) {
			t.note("the journal begins at " + stamp(state.FirstTime.UnixNano()) + ": what was before is not in it")
		}
	}
	t.e = &Evaluator{journal: allRead{}, now: func() time.Time { return t.clock }, log: slog.New(slog.DiscardHandler), write: t.write,
		metrics: newEvaluatorMetrics(prometheus.NewRegistry()), watches: map[string]*watch{}, maxGroups: maxGroups, maxWeight: maxTrialWeight}
	t.w = newWatch(a, newState(&a, q.From.UnixNano()))
	t.e.watches[a.ID] = t.w
	t.e.changed()
	return t, nil
}

// allRead is a journal of which everything was read: time passes when the trial says so.
type allRead struct{}

func (allRead) State(context.Context) (journal.State, error) { return journal.State{}, nil }

// run reads the journal, and evaluates up to To.
func (t *trial) run(ctx context.Context, past Past) error {
	first, err := past.FirstAt(ctx, time.Unix(0, t.warm).Add(-clockSlack))
	if err != nil {
		return err
	}
	end, err := past.FirstAt(ctx, t.out.To.Add(clockSlack))
	if err != nil {
		return err
	}
	if end > first {
		err = past.Range(ctx, journal.Span{First: first, Last: end - 1}, func(records []journal.Record, gap *journal.GapError) error {
			if gap != nil {
				t.gap(gap)
			}
			for i := range records {
				if err := t.take(ctx, &records[i]); err != nil {
					return err
				}
			}
			return t.rest(ctx)
		})
		if err != nil {
			return err
		}
	}
	return t.advance(ctx, t.out.To.UnixNano())
}

// rest pauses for as long as the trial has worked: what it works with is needed elsewhere.
func (t *trial) rest(ctx context.Context) error {
	if !retry.Sleep(ctx, min(time.Since(t.resumed), maxRest)) {
		return ctx.Err()
	}
	t.resumed = time.Now()
	return nil
}

// take gives a record to the evaluator when its time has come.
func (t *trial) take(ctx context.Context, r *journal.Record) error {
	var at int64
	var edge string
	switch {
	case r.Event != nil && r.Event.Past:
		return nil // the evaluator passes it over
	case r.Event != nil:
		at, edge = r.Event.Time, r.Event.Edge
	case r.Relay != nil:
		at, edge = r.Relay.Time, r.Relay.Edge
	}
	if edge != "" {
		at = max(at, t.at) // what comes late from an edge does not set the clock back
	}
	if at < t.warm || at >= t.out.To.UnixNano() {
		return nil
	}
	t.at = at
	if err := t.advance(ctx, at); err != nil {
		return err
	}
	if r.Event != nil {
		t.out.Events++
		t.out.Readings += uint64(r.Event.Readings())
		t.pause(at)
		matched := t.matched(r.Event)
		t.out.Matched += matched
		if matched == 0 {
			return nil // the evaluator would pass it over
		}
	}
	_, err := t.e.Apply(ctx, []journal.Record{*r})
	return err
}

// matched counts the readings of an event that count for the alert.
func (t *trial) matched(event *codec.Event) (n uint64) {
	for i := range event.Collectors {
		c := &event.Collectors[i]
		for k := range c.Stats {
			if c.Stats[k].ID == t.w.alert.Metric && t.w.matches(event, c.Tags) {
				n++
			}
		}
	}
	return n
}

// advance moves the clock to a time, and has the evaluator evaluate what is due by then, at the
// moment at which it is: nothing that the trial finds is old news.
func (t *trial) advance(ctx context.Context, to int64) error {
	from := t.out.From.UnixNano()
	if to < from {
		t.clock = time.Unix(0, to)
		return nil
	}
	if !t.begun {
		t.begun = true
		if err := t.tick(ctx, from); err != nil {
			return err
		}
	}
	if back := t.clock.UnixNano() - to; back > int64(grace) { // the clock was set back
		return t.tick(ctx, to)
	}
	for {
		due := t.e.due + int64(grace)
		if due > to {
			break
		}
		if err := t.tick(ctx, due); err != nil {
			return err
		}
	}
	t.clock = time.Unix(0, to)
	return nil
}

// tick has the evaluator evaluate what is due at a moment. In a silence there are many, and no record
// after which the trial would rest.
func (t *trial) tick(ctx context.Context, at int64) error {
	if time.Since(t.resumed) >= maxRest {
		if err := t.rest(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.clock = time.Unix(0, at)
	_, err := t.e.Tick(ctx, t.clock)
	return err
}

// write keeps the posts of evaluations, in the order in which they would be queued.
func (t *trial) write(all []evaluation, _ time.Time) error {
	for i := range all {
		changes := slices.DeleteFunc(slices.Clone(all[i].changes), func(c change) bool { return c.body == nil })
		slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.group.key, b.group.key) })
		for _, c := range changes {
			if len(t.out.Posts) == maxTrialPosts {
				return errEnough
			}
			t.out.Posts = append(t.out.Posts, c.shown())
		}
	}
	return nil
}

// shown is the post of a change.
func (c *change) shown() TrialPost {
	var m message
	_ = json.Unmarshal(c.body, &m) // it was encoded just now
	p := TrialPost{Time: time.Unix(0, c.at).UTC(), Name: m.ID, Tags: m.Data.Series[0].Tags, Level: m.Level, PreviousLevel: m.PreviousLevel,
		Silent: relayNames(c.state.Silent[:min(len(c.state.Silent), maxTrialListed)]), Message: m.Message}
	if len(p.Silent) == 0 {
		p.Value = c.state.Mean
	}
	return p
}

// gap notes records that are missing.
func (t *trial) gap(g *journal.GapError) {
	t.out.Lost += g.Missing()
	if len(t.out.Gaps) == maxTrialListed {
		return
	}
	gap := TrialGap{From: g.From, To: g.To, Count: g.Missing(), Reason: g.Reason}
	if t.last != 0 {
		gap.After = time.Unix(0, t.last).UTC()
	}
	t.out.Gaps = append(t.out.Gaps, gap)
}

// pause notes that no relay sent anything until now for longer than a deadman waits. If Pulse did not
// run then, it would not have taken that for silence; the journal does not say whether it ran.
func (t *trial) pause(at int64) {
	if deadman := int64(t.w.alert.Deadman); deadman != 0 && t.last != 0 && at-t.last > deadman {
		if t.pauses++; t.pauses <= maxTrialListed {
			t.note(fmt.Sprintf("no relay sent anything from %s to %s: if Pulse did not run then, the deadman would not have posted that", stamp(t.last), stamp(at)))
		}
	}
	t.last = max(t.last, at)
}

func (t *trial) note(text string) { t.out.Notes = append(t.out.Notes, text) }

// outcome is what the trial found.
func (t *trial) outcome() Trial {
	t.out.Reached = time.Unix(0, t.w.evaluated).UTC()
	t.out.Groups, t.out.Firing = len(t.w.groups), t.w.firing
	if t.w.full {
		t.note("there were more groups at a time than a test has room for: readings of the others were passed over")
	}
	return t.out
}

// stamp is a time in a note.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339) }
