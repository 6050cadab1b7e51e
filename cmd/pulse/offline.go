package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/projector/past"
)

// openOffline opens everything that a server with that configuration would open, and starts
// nothing. It fails while a server uses the data dir. The caller ends it with Stop.
func openOffline(ctx context.Context, config *Config, log *slog.Logger) (*App, error) {
	a := &App{config: config, log: log}
	err := a.openState()
	if err == nil {
		err = a.openData(ctx, prometheus.NewRegistry())
	}
	if err != nil {
		return nil, errors.Join(err, a.Stop(ctx))
	}
	return a, nil
}

// replayOffline replays without a server: it projects what the journal holds, as a server would,
// does the replay, and stops. It returns the replay once that has ended, also if ctx ended it
// (canceled); the error says why there was no replay. It calls progress now and then, and never
// after it returned.
func replayOffline(ctx context.Context, config *Config, request past.Request, progress func(past.Job), log *slog.Logger) (_ past.Job, err error) {
	background := context.WithoutCancel(ctx) // what was begun is ended in order
	a, err := openOffline(background, config, log)
	if err != nil {
		return past.Job{}, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(background, stopTimeout)
		defer cancel()
		err = errors.Join(err, a.Stop(stopping))
	}()
	if err := a.startProjections(background); err != nil {
		return past.Job{}, err
	}
	jobs := a.past.Replays
	job, err := jobs.Create(request)
	if err != nil {
		return past.Job{}, err
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !job.Ended() {
		progress(job)
		select {
		case <-ctx.Done():
			return jobs.Cancel(job.ID)
		case <-tick.C:
		}
		if job, err = jobs.Get(job.ID); err != nil {
			return job, err
		}
	}
	return job, nil
}
