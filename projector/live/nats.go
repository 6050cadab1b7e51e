package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

// maxSubjects is how many subjects a NATS remembers before it forgets all of them and begins anew.
const maxSubjects = 1 << 17

// Publisher takes what is published to whoever listens at the moment; *[journal.Live] is one. Its methods must not wait
// for a client, and must not keep what they get.
type Publisher interface {
	// Wanted tells whether anybody listens to anything, WantedSubject whether anybody does to this.
	Wanted() bool
	WantedSubject(subject string) bool
	// Publish counts what it fails at.
	Publish(subject string, payload []byte) error
}

// NATSOptions configure a NATS. Publisher is required.
type NATSOptions struct {
	Publisher Publisher
	// MaxAge is how old a reading may be when it is published (0: DefaultMaxAge).
	MaxAge time.Duration
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock by which the age of readings is told (nil: time.Now).
	Now func() time.Time
}

// NATS is a projection that publishes each reading, as it comes, on the subject pulse.live.<relay>.<stat>, to clients of
// the journal's server:
//
//	{"time":1795416970017829163,"value":0.25,"tags":{"host":"web1","service":"web1"}}
//
// The time is in nanoseconds since 1970 UTC, as in the journal's events; relay and stat are encoded by [codec.Token].
// Only what somebody listens to is encoded, and while nobody listens a batch costs some tens of nanoseconds. A reading is
// sent at most once. It needs no position, and what the journal held when it began is not live.
type NATS struct {
	o         NATSOptions
	published prometheus.Counter
	old       prometheus.Counter
	failed    prometheus.Counter

	// The runner's own.
	begun    uint64 // the journal's end at the beginning
	subjects map[subjectKey]string
	payload  []byte
	failures retry.Failures
}

type subjectKey struct{ relay, stat string }

// NewNATS returns the projection. The error says which option is wrong, or that the registry has the metrics of another.
func NewNATS(o NATSOptions) (*NATS, error) {
	switch {
	case o.Publisher == nil:
		return nil, errors.New("live: NATSOptions needs a Publisher")
	case o.MaxAge < 0:
		return nil, errors.New("live: NATSOptions.MaxAge is negative")
	case o.MaxAge == 0:
		o.MaxAge = DefaultMaxAge
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &NATS{o: o, subjects: make(map[subjectKey]string)}
	n.published = prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_projector_nats_published_total",
		Help: "Readings handed to the server because somebody listened."})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pulse_projector_nats_dropped_total",
		Help: "Readings that somebody might have listened to: older than the beat interval, or not taken by the server."}, []string{"reason"})
	n.old, n.failed = dropped.WithLabelValues(reasonOld), dropped.WithLabelValues("failed")
	if err := o.Registerer.Register(n.published); err != nil {
		return nil, fmt.Errorf("live: registering the metrics of nats: %w", err)
	}
	if err := o.Registerer.Register(dropped); err != nil {
		o.Registerer.Unregister(n.published)
		return nil, fmt.Errorf("live: registering the metrics of nats: %w", err)
	}
	return n, nil
}

// Name is "nats".
func (n *NATS) Name() string { return "nats" }

// Begin notes where the journal ends.
func (n *NATS) Begin(_ context.Context, span projector.Origin) error {
	n.begun = span.Last
	return nil
}

// Apply publishes the readings that somebody listens to. It never fails.
func (n *NATS) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	position := records[len(records)-1].Seq
	if !n.o.Publisher.Wanted() {
		return position, nil
	}
	oldest := n.o.Now().Add(-n.o.MaxAge).UnixNano()
	for i := range records {
		e := records[i].Event
		switch {
		case e == nil || e.Relay == "" || records[i].Seq <= n.begun:
		case e.Time < oldest: // a runner that is behind
			n.old.Add(float64(e.Readings()))
		default:
			n.publish(e)
		}
	}
	return position, nil
}

func (n *NATS) publish(e *codec.Event) {
	for i := range e.Collectors {
		c := &e.Collectors[i]
		var tags []lookup.Tag // the collector's, once they are needed
		for k := range c.Stats {
			s := &c.Stats[k]
			if s.ID == "" || math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
				continue // neither comes out of a journal
			}
			subject := n.subject(e.Relay, s.ID)
			if !n.o.Publisher.WantedSubject(subject) {
				continue
			}
			if tags == nil {
				tags = lookup.Tags(e.Relay, c.Tags)
			}
			n.payload = appendLive(n.payload[:0], e.Time, s.Value, tags)
			if err := n.o.Publisher.Publish(subject, n.payload); err != nil {
				n.lost(err)
				continue
			}
			n.published.Inc()
		}
	}
}

// subject is where the stat of the relay is published.
func (n *NATS) subject(relay, stat string) string {
	key := subjectKey{relay, stat}
	if s, ok := n.subjects[key]; ok {
		return s
	}
	if len(n.subjects) >= maxSubjects {
		clear(n.subjects)
	}
	s := "pulse.live." + codec.Token(relay) + "." + codec.Token(stat)
	n.subjects[key] = s
	return s
}

// lost counts a reading that the server did not take, and says so at most once a minute.
func (n *NATS) lost(err error) {
	n.failed.Inc()
	if n.failures.MayLog() {
		n.failures.Logged()
		n.o.Logger.Warn("readings are not published live to NATS clients", "error", err)
	}
}

// appendLive appends what is published of a reading.
func appendLive(dst []byte, at int64, v float64, tags []lookup.Tag) []byte {
	dst = append(dst, `{"time":`...)
	dst = strconv.AppendInt(dst, at, 10)
	dst = append(dst, `,"value":`...)
	dst = strconv.AppendFloat(dst, v, 'f', -1, 64)
	dst = append(dst, `,"tags":{`...)
	for i, t := range tags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, t.Key)
		dst = append(dst, ':')
		dst = appendString(dst, t.Value)
	}
	return append(dst, '}', '}')
}
