package subjects

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/jsontext"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

// DefaultMaxAge is Options.MaxAge if it is not given: the default beat interval.
const DefaultMaxAge = 30 * time.Second

// maxSubjects bounds the subjects that a Projection remembers, for names that never repeat. One
// more, and it forgets all of them.
const maxSubjects = 1 << 17

// Publisher takes what is published to whoever listens at the moment; *[journal.Live] is one. Its
// methods must not wait for a client, and must not keep what they get.
type Publisher interface {
	// Wanted reports whether anybody listens to anything.
	Wanted() bool
	// WantedSubject reports whether anybody listens to the subject.
	WantedSubject(subject string) bool
	// Publish publishes on a subject. The caller counts the failures.
	Publish(subject string, payload []byte) error
}

// Options configure a Projection. Publisher is required.
type Options struct {
	Publisher Publisher
	// MaxAge is how old a reading may be when it is published (0: DefaultMaxAge).
	MaxAge time.Duration
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock that readings are compared with (nil: time.Now).
	Now func() time.Time
}

// Projection publishes each reading as
//
//	{"time":1795416970017829163,"value":0.25,"tags":{"host":"web1","service":"web1"}}
//
// The time is in nanoseconds since 1970 UTC, as in the journal's events. The relay and the stat in
// a subject are encoded by [codec.Token]. It needs no position, and what the journal held when it
// began is not live. All methods are the runner's.
type Projection struct {
	o                      Options
	log                    *quietlog.Logger
	published, old, failed prometheus.Counter

	begun    uint64 // the journal's last record at the beginning
	subjects map[subjectKey]string
	payload  []byte
}

type subjectKey struct {
	relay codec.RelayKey
	stat  string
}

// New returns the projection. The error says which option is wrong.
func New(o Options) (*Projection, error) {
	if o.Publisher == nil {
		return nil, errors.New("subjects: Options needs a Publisher")
	}
	if o.MaxAge < 0 {
		return nil, errors.New("subjects: Options.MaxAge is negative")
	}
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dropped := metric.Register(o.Registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pulse_projector_nats_dropped_total",
		Help: "Readings that somebody might have listened to: older than the beat interval, or not taken by the server.",
	}, []string{"reason"}))
	published := metric.Register(o.Registerer, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pulse_projector_nats_published_total",
		Help: "Readings handed to the server because somebody listened.",
	}))
	return &Projection{
		o: o, log: quietlog.New(o.Logger), published: published, old: dropped.WithLabelValues("old"), failed: dropped.WithLabelValues("failed"),
		subjects: make(map[subjectKey]string),
	}, nil
}

// Name is "nats".
func (p *Projection) Name() string { return "nats" }

// Begin notes which record is the journal's last.
func (p *Projection) Begin(_ context.Context, origin projector.Origin) error {
	p.begun = origin.Last
	return nil
}

// Apply publishes the readings that somebody listens to. It never fails.
func (p *Projection) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	position := records[len(records)-1].Seq
	if !p.o.Publisher.Wanted() {
		return position, nil
	}
	oldest := p.o.Now().Add(-p.o.MaxAge).UnixNano()
	for i := range records {
		e := records[i].Event
		switch {
		case e == nil || e.Past || e.Relay == "" || records[i].Seq <= p.begun:
		case e.Time < oldest: // the runner lags
			p.old.Add(float64(e.Readings()))
		default:
			p.publish(e)
		}
	}
	return position, nil
}

func (p *Projection) publish(e *codec.Event) {
	for i := range e.Collectors {
		c := &e.Collectors[i]
		var tags []lookup.Tag // the collector's, made when the first reading needs them
		for k := range c.Stats {
			s := &c.Stats[k]
			if s.ID == "" || math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
				continue // the journal holds neither
			}
			subject := p.subject(e.Key(), s.ID)
			if !p.o.Publisher.WantedSubject(subject) {
				continue
			}
			if tags == nil {
				tags = lookup.Tags(e.Key(), c.Tags)
			}
			p.payload = appendReading(p.payload[:0], e.Time, s.Value, tags)
			if err := p.o.Publisher.Publish(subject, p.payload); err != nil {
				p.failed.Inc()
				p.log.WarnRarely("publish", "readings are not published live to NATS clients", "error", err)
				continue
			}
			p.published.Inc()
		}
	}
}

// subject returns where the stat of the relay is published.
func (p *Projection) subject(relay codec.RelayKey, stat string) string {
	key := subjectKey{relay, stat}
	if s, ok := p.subjects[key]; ok {
		return s
	}
	if len(p.subjects) >= maxSubjects {
		clear(p.subjects)
	}
	edge := ""
	if relay.Edge != "" {
		edge = relay.Edge + "."
	}
	s := "pulse." + edge + "live." + codec.Token(relay.Relay) + "." + codec.Token(stat)
	p.subjects[key] = s
	return s
}

// appendReading appends the payload of a reading.
func appendReading(dst []byte, at int64, value float64, tags []lookup.Tag) []byte {
	dst = strconv.AppendInt(append(dst, `{"time":`...), at, 10)
	dst = strconv.AppendFloat(append(dst, `,"value":`...), value, 'f', -1, 64)
	return append(jsontext.AppendTags(append(dst, `,"tags":`...), tags), '}')
}
