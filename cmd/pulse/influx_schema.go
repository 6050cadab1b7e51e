package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// influxSchema is the schema in InfluxDB, as the projections into it need it.
type influxSchema struct{ *App }

// Ensure makes and repairs the schema.
func (a influxSchema) Ensure(ctx context.Context, missing func() error) error {
	_, err := migrations.EnsureInflux(ctx, a.store, migrations.Schema{Raw: a.config.RawRetention, Aggregates: a.config.Retention, Missing: missing}, a.log.With("room", "migrations"))
	return err
}

// Wiped notes what was in InfluxDB before the journal's first record: that is gone.
func (a influxSchema) Wiped(ctx context.Context, projections []string) error {
	state, err := a.journal.State(ctx)
	if err != nil {
		return err
	}
	oldest, err := a.aggregates.Oldest()
	if err != nil {
		return err
	}
	for _, name := range projections {
		policy := influx.PolicyRaw
		if name == a.aggregates.Name() {
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
	}
	return nil
}

var errWiped = errors.New("it holds nothing, though readings were written to it: it is new, or was removed or emptied")

// noteWiped says which of what InfluxDB held the journal cannot bring back: what is older than its
// first record. oldest is when the first window began that is known to have been written, zero if
// none is.
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

// wiped are the damages of an InfluxDB on the network: it keeps no list, so they are known until
// the next start.
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
