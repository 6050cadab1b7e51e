package main

import (
	"context"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/query"
)

// The API reads through small interfaces, which most rooms fit as they are. What follows fits the
// others.

// influxReader is InfluxDB. A database without Pulse's schema holds nothing yet, which is an answer and
// no failure.
type influxReader struct{ influx.Store }

func (s influxReader) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	rows, err := s.Store.Query(ctx, statement, params)
	if err != nil && influx.KindOf(err) == influx.Schema {
		return nil, nil
	}
	return rows, err
}

// projectionsReader is how far the projections are. The projection of mist never fails, so that mist
// delays nothing. The state of its connection comes from the sink.
type projectionsReader struct {
	*projector.Set
	mist *mist.Sink
}

func (p projectionsReader) Projections() []projector.Status {
	list := p.Set.Status()
	for i := range list {
		if s := &list[i]; p.mist != nil && s.Name == p.mist.Name() && !p.mist.Status().Connected {
			s.State, s.LastError, s.Failing = "not connected", p.mist.Status().LastError, true
		}
	}
	return list
}

// liveStreams are streams of readings as they come.
type liveStreams struct{ *stream.Hub }

func (h liveStreams) Subscribe(q query.LiveRequest) (query.LiveStream, error) {
	s, err := h.Hub.Subscribe(stream.Request(q))
	if err != nil {
		return nil, err // a nil *stream.Subscription would not be a nil LiveStream
	}
	return s, nil
}
