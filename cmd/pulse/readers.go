package main

import (
	"context"
	"errors"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/query"
)

// The API reads through small interfaces of its own, so that query imports
// nothing that writes. What follows hands it the rooms in its own terms.

// latestReader is the live index as the API reads it.
type latestReader struct{ *latest.Latest }

func (l latestReader) Select(stat string, filters map[string][]string, since int64, visit func(query.Reading)) {
	var tags []query.Tag // reused from visit to visit, as query allows
	l.Latest.Select(stat, filters, since, func(r latest.Reading) {
		tags = tags[:0]
		for _, t := range r.Tags {
			tags = append(tags, query.Tag(t))
		}
		visit(query.Reading{Time: r.Time, Value: r.Value, Tags: tags})
	})
}

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

// journalReader is the journal's state.
type journalReader struct{ *journal.Journal }

func (j journalReader) State(ctx context.Context) (query.JournalState, error) {
	s, err := j.Journal.State(ctx)
	lost := j.Losses()
	gaps := make([]query.Gap, len(lost.Ranges))
	for i, l := range lost.Ranges {
		gaps[i] = query.Gap{From: l.From, To: l.To, Count: l.To - l.From + 1, Reason: l.Reason, Time: l.Found}
	}
	return query.JournalState{
		Lost: lost.Events, Gaps: gaps,
		FirstSeq: s.FirstSeq, LastSeq: s.LastSeq, FirstTime: s.FirstTime, LastTime: s.LastTime,
		Messages: s.Messages, Bytes: int64(s.Bytes), MaxBytes: s.MaxBytes, Retention: s.Retention,
	}, err
}

// consumers are the places of NATS clients in the journal.
type consumers struct{ *journal.Journal }

func (c consumers) Consumers(ctx context.Context) ([]query.Consumer, error) {
	list, err := c.Journal.Consumers(ctx)
	out := make([]query.Consumer, len(list))
	for i, consumer := range list {
		out[i] = query.Consumer(consumer)
	}
	return out, err
}

func (c consumers) DeleteConsumer(ctx context.Context, name string) error {
	err := c.Journal.DeleteConsumer(ctx, name)
	if errors.Is(err, journal.ErrNoConsumer) {
		return &controlError{query.ErrNotFound, errors.New("there is no consumer of this name: GET /consumers lists them")}
	}
	return err
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

// relaysReader is the registry.
type relaysReader struct{ *ingest.Server }

func (s relaysReader) Relays() []query.Relay {
	relays := s.Server.Relays()
	list := make([]query.Relay, len(relays))
	for i, r := range relays {
		list[i] = query.Relay{
			ID: r.ID, Connected: r.Connected, Address: r.RemoteAddr, ConnectedAt: r.ConnectedAt, LastSeen: r.LastSeen,
			Collectors: make([]query.Collector, len(r.Collectors)), Polls: r.Polls, Unanswered: r.Unanswered, Skipped: r.Skipped, Rejected: r.Rejected,
			Replaced: r.Replaced, ReplacedAddress: r.ReplacedAddr,
		}
		for k, c := range r.Collectors {
			list[i].Collectors[k] = query.Collector{Name: c.Name, Tags: c.Tags, Interval: c.Interval}
		}
	}
	return list
}

// control changes which relays there are and how they are polled.
type control struct{ *ingest.Server }

func (c control) Override(ctx context.Context, r query.OverrideRequest) (query.Override, error) {
	o, err := c.Server.Override(ctx, ingest.OverrideRequest(r))
	return query.Override(o), asQueryError(err)
}

func (c control) Overrides() []query.Override {
	overrides := c.Server.Overrides()
	list := make([]query.Override, len(overrides))
	for i, o := range overrides {
		list[i] = query.Override(o)
	}
	return list
}

func (c control) CancelOverride(_ context.Context, id string) error {
	return asQueryError(c.Server.CancelOverride(id))
}

func (c control) Flush(_ context.Context, relays []string) (int, error) {
	return c.Server.Flush(relays), nil
}

func (c control) Forget(ctx context.Context, relay string) error {
	return asQueryError(c.Server.Forget(ctx, relay))
}

// asQueryError gives an error of ingest the status that the API answers with,
// and the API's users its text without the names of our packages.
func asQueryError(err error) error {
	text := err
	if e, ok := errors.AsType[*ingest.Error](err); ok {
		text = e.Err
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ingest.ErrNotFound), errors.Is(err, ingest.ErrNotConnected):
		return &controlError{query.ErrNotFound, text}
	case errors.Is(err, ingest.ErrConnected):
		return &controlError{query.ErrConnected, text}
	case errors.Is(err, ingest.ErrInvalid), errors.Is(err, ingest.ErrTooMany):
		return &controlError{query.ErrInvalid, text}
	default:
		return err
	}
}

// A controlError is kind for the API and text for its users.
type controlError struct{ kind, text error }

func (e *controlError) Error() string   { return e.text.Error() }
func (e *controlError) Unwrap() []error { return []error{e.kind, e.text} }
