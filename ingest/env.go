package ingest

import (
	"context"
	"time"

	"github.com/nanopack/pulse/internal/quietlog"
)

// env is what the relays of a server share: options, clock, log, overrides, the schedule of polls,
// and the queues that a relay writes to without ever waiting. Its fields never change.
type env struct {
	Options
	log *quietlog.Logger
	m   *metrics
	// appends is the context of everything that goes to the journal. It ends when the time that
	// [Server.Stop] was given is over.
	appends context.Context

	events     *eventQueues
	changes    *changes
	overrides  *overrideStore
	assemblies assemblies
	schedule   *schedule
	recalls    recalls

	started time.Time
}

func newEnv(appends context.Context, o Options) *env {
	e := &env{Options: o, log: quietlog.New(o.Logger), m: newMetrics(), appends: appends,
		changes: newChanges(), overrides: &overrideStore{db: o.DB}, started: time.Now()}
	e.events = newEventQueues(appends, o.Journal, e.m, e.log)
	e.schedule = newSchedule(e.tick, o.PollInterval)
	return e
}

// tick returns the time that polls and overrides follow: nanoseconds of the wall clock at the start
// plus what has passed since. So the phases of polls stay where they are over a restart, and
// nothing happens to them when the clock is set.
func (e *env) tick() int64 { return e.started.UnixNano() + int64(time.Since(e.started)) }
