package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// rewindInflux rewinds the projections into InfluxDB, which holds nothing, if they had begun: if a position is saved, or
// if something may have been written since the start, which no position tells yet. What was in InfluxDB before the
// journal's first record is gone, and that is said before the position is.
func (a *App) rewindInflux(ctx context.Context) error {
	var begun []*projector.Runner
	for _, r := range a.intoInflux {
		position, err := a.positions.Load(r.Status().Name)
		if err != nil {
			return err
		}
		if position > 0 || a.schemaSeen {
			begun = append(begun, r)
		}
	}
	if len(begun) == 0 {
		return nil
	}
	state, err := a.journal.State(ctx)
	if err != nil {
		return err
	}
	oldest, err := a.aggregates.Oldest()
	if err != nil {
		return err
	}
	for _, r := range begun {
		policy := influx.PolicyRaw
		if r.Status().Name == a.aggregates.Name() {
			policy = influx.PolicyAggregate
		}
		if err := a.noteWiped(state, policy, oldest); err != nil {
			return err
		}
		if policy == influx.PolicyAggregate {
			if err := a.aggregates.RowsGone(); err != nil {
				return err
			}
		}
		if err := r.Rewind(); err != nil {
			return err
		}
	}
	return nil
}

var errWiped = errors.New("it holds nothing, though readings were written to it: it is new, or was removed or emptied")

// noteWiped says which of what InfluxDB held the journal cannot bring back: what is older than its first record. oldest is
// when the first window began that is known to have been written, zero if none is.
func (a *App) noteWiped(state journal.State, policy influx.Policy, oldest time.Time) error {
	if state.FirstSeq <= 1 {
		return nil // it has all that there ever was
	}
	r := a.newRepairer()
	to := state.FirstTime
	if state.Messages == 0 {
		to = r.now()
	}
	d := influx.Damage{Found: r.now().UTC(), What: "everything", Why: errWiped.Error(), Policy: policy,
		From: later(time.Unix(0, 0), oldest).UTC(), To: to.UTC(), Settled: true}
	from, _ := r.span(d)
	if !from.Before(to) {
		return nil
	}
	d.From, d.LostFrom, d.LostTo = from, from, to.UTC()
	if store, ok := a.store.(*embedded.Store); ok {
		if err := store.Note(d); err != nil {
			return err
		}
	} else {
		a.wiped.add(d)
	}
	r.tell(d)
	return nil
}

// wiped are the damages of an InfluxDB on the network: it keeps no list, so they are known until the next start.
type wiped struct {
	mu   sync.Mutex
	list []influx.Damage
}

// maxWiped bounds the list.
const maxWiped = 16

func (w *wiped) add(d influx.Damage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, d)
	w.list = w.list[max(0, len(w.list)-maxWiped):]
}

func (w *wiped) get() []influx.Damage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}
