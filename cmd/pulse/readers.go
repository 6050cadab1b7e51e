package main

import (
	"context"
	"errors"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/query"
)

// The API reads through small interfaces, which most rooms fit as they are. What follows fits the
// others.

// influxReader is InfluxDB. One without Pulse's schema holds nothing yet, which
// is an answer and no failure.
type influxReader struct{ influx.Store }

func (s influxReader) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	rows, err := s.Store.Query(ctx, statement, params)
	if err != nil && influx.KindOf(err) == influx.Schema {
		return nil, nil
	}
	return rows, err
}

// projectionsReader is how far the projections are. The one of mist never fails,
// so that mist delays nothing; how its connection is, mist tells itself.
type projectionsReader struct {
	*projector.Set
	mist *mist.Sink
}

func (p projectionsReader) Projections() []query.Projection {
	status := p.Set.Status()
	list := make([]query.Projection, len(status))
	for i, s := range status {
		list[i] = query.Projection{
			Name: s.Name, Position: s.Position, Applied: s.Applied, Lag: s.Lag, LagSeconds: s.LagSeconds,
			Backlog: s.Backlog, SecondsToLoss: s.SecondsToLoss, Lost: s.Lost, Gaps: make([]query.Gap, len(s.Gaps)),
			State: string(s.State), LastError: s.LastError, Failing: s.State == projector.StateFailing,
		}
		for k, g := range s.Gaps {
			list[i].Gaps[k] = query.Gap(g)
		}
		if p.mist != nil && s.Name == p.mist.Name() && !p.mist.Status().Connected {
			list[i].State, list[i].LastError, list[i].Failing = "not connected", p.mist.Status().LastError, true
		}
	}
	return list
}

// rejectsReader is what sinks refused.
type rejectsReader struct{ rejects *projector.Rejects }

func (r rejectsReader) Rejects(context.Context) ([]query.Reject, error) {
	rejects, err := r.rejects.List()
	list := make([]query.Reject, len(rejects))
	for i, x := range rejects {
		list[i] = query.Reject{Projection: x.Projection, Sequence: x.Seq, Relay: x.Relay, Stat: x.Stat, Count: x.Count, Reason: x.Reason, Time: x.Time}
	}
	return list, err
}

// replays rebuild ranges of the views.
type replays struct{ *past.Replays }

func (r replays) Create(_ context.Context, q query.ReplayRequest) (query.Replay, error) {
	return asReplay(r.Replays.Create(past.Request(q)))
}

func (r replays) List() []query.Replay {
	jobs := r.Replays.List()
	list := make([]query.Replay, len(jobs))
	for i, job := range jobs {
		list[i], _ = asReplay(job, nil)
	}
	return list
}

func (r replays) Get(id string) (query.Replay, error)    { return asReplay(r.Replays.Get(id)) }
func (r replays) Cancel(id string) (query.Replay, error) { return asReplay(r.Replays.Cancel(id)) }

// asReplay is a job as the API shows it, and an error with the status that the
// API answers with.
func asReplay(j past.Job, err error) (query.Replay, error) {
	switch {
	case err == nil:
	case errors.Is(err, past.ErrInvalid):
		return query.Replay{}, &controlError{query.ErrInvalid, err}
	case errors.Is(err, past.ErrNotFound):
		return query.Replay{}, &controlError{query.ErrNotFound, err}
	case errors.Is(err, past.ErrTooMany):
		return query.Replay{}, &controlError{query.ErrTooMany, err}
	default:
		return query.Replay{}, err
	}
	r := query.Replay{
		ID: j.ID, Projections: j.Projections, From: j.From, To: j.To, DryRun: j.DryRun, State: string(j.State),
		Created: j.Created, Started: j.Started, Finished: j.Finished, Progress: j.Progress, SecondsLeft: j.SecondsLeft,
		LastError: j.LastError, Parts: make([]query.ReplayPart, len(j.Parts)),
	}
	for i, p := range j.Parts {
		r.Parts[i] = query.ReplayPart{
			Projection: p.Projection, State: string(p.State), Events: p.Events, EventsTotal: p.EventsTotal, Readings: p.Readings,
			Points: p.Points, Expired: p.Expired, Refused: p.Refused, Lost: p.Lost, Notes: p.Notes,
		}
	}
	return r, nil
}

var _ query.Replays = replays{}

// liveStreams are streams of readings as they come.
type liveStreams struct{ *stream.Hub }

func (h liveStreams) Subscribe(q query.LiveRequest) (query.LiveStream, error) {
	s, err := h.Hub.Subscribe(stream.Request(q))
	if err != nil {
		return nil, err // a nil *stream.Subscription would not be a nil LiveStream
	}
	return s, nil
}

// A controlError is kind for the API and text for its users.
type controlError struct{ kind, text error }

func (e *controlError) Error() string   { return e.text.Error() }
func (e *controlError) Unwrap() []error { return []error{e.kind, e.text} }
