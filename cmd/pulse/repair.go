package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/query"
)

// repairRetry is how long a repair waits after an error.
const repairRetry = 30 * time.Second

// A repairer projects again what the embedded InfluxDB has lost, as far as the journal has it, and
// says what is lost for good.
type repairer struct {
	store    *embedded.Store
	journal  *journal.Journal
	create   func(past.Request) (past.Job, error)
	keeps    map[influx.Policy]time.Duration
	interval time.Duration // of a window
	now      func() time.Time
	log      *slog.Logger
	metrics  repairMetrics
}

type repairMetrics struct{ found, lost *prometheus.CounterVec }

func newRepairMetrics(registry prometheus.Registerer) repairMetrics {
	m := repairMetrics{
		found: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pulse_influx_damages_total",
			Help: "Files of the embedded InfluxDB that were missing or not as they were written."}, []string{"policy"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pulse_influx_lost_seconds_total",
			Help: "How much time such files held of which the journal has nothing any more."}, []string{"policy"}),
	}
	registry.MustRegister(m.found, m.lost)
	for _, policy := range []influx.Policy{influx.PolicyRaw, influx.PolicyAggregate} {
		m.found.WithLabelValues(string(policy))
		m.lost.WithLabelValues(string(policy))
	}
	m.found.WithLabelValues("none")
	return m
}

// replayOf returns the name of the replay that writes what a policy holds.
func replayOf(policy influx.Policy) string {
	if policy == influx.PolicyAggregate {
		return "aggregates"
	}
	return "raw"
}

// newRepairer returns a repairer without a store.
func (a *App) newRepairer() *repairer {
	r := &repairer{
		journal: a.journal, create: a.past.Create, interval: a.config.AggregateInterval, now: a.config.now,
		keeps: map[influx.Policy]time.Duration{influx.PolicyRaw: a.config.RawRetention, influx.PolicyAggregate: a.config.Retention},
		log:   a.log.With("room", "influx"), metrics: a.repairs,
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// startRepair starts to repair the damage that the embedded InfluxDB finds, now and later. The
// teardown ends it.
func (a *App) startRepair() {
	store, ok := a.store.(*embedded.Store)
	if !ok {
		return
	}
	r := a.newRepairer()
	r.store = store
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	a.teardown.Push("repair of influxdb", func(context.Context) error {
		cancel()
		<-ended
		return nil
	})
	go func() {
		defer close(ended)
		r.run(ctx)
	}()
}

func (r *repairer) run(ctx context.Context) {
	for {
		select {
		case <-r.store.Damaged():
		case <-ctx.Done():
			return
		}
		for err := r.settle(ctx); err != nil; err = r.settle(ctx) {
			if ctx.Err() != nil {
				return
			}
			r.log.Warn("what InfluxDB has lost cannot be projected again yet", "error", err, "again_in", repairRetry)
			select {
			case <-time.After(repairRetry):
			case <-ctx.Done():
				return
			}
		}
	}
}

// settle asks for one replay for each policy, which covers everything that is damaged, and says
// what no replay can bring back.
func (r *repairer) settle(ctx context.Context) error {
	state, err := r.journal.State(ctx)
	if err != nil {
		return err
	}
	type place struct {
		what  string
		found time.Time
		influx.Policy
	}
	settled := make(map[place]influx.Damage)
	ranges := make(map[influx.Policy]past.Request)
	for _, d := range r.store.Damages() {
		if d.Settled {
			continue
		}
		from, to := r.span(d)
		first := r.holds(state, d.Policy)
		// A damage of all times loses nothing as long as the journal has dropped nothing. Whether
		// something that cannot be verified is damaged is unknown.
		all, unknown := d.From.Unix() <= 0, d.From.IsZero()
		if from.Before(to) && from.Before(first) && !unknown && (!all || state.FirstSeq > 1) {
			d.LostFrom, d.LostTo = from, earlier(first, to)
		}
		if from.Before(to) && first.Before(to) && state.Messages > 0 {
			q, ok := ranges[d.Policy]
			if !ok {
				q = past.Request{Projections: []string{replayOf(d.Policy)}, From: later(from, first), To: to}
			}
			q.From, q.To = earlier(q.From, later(from, first)), later(q.To, to)
			ranges[d.Policy] = q
			d.Replay = "wanted"
		}
		settled[place{d.What, d.Found, d.Policy}] = d
	}
	jobs := make(map[influx.Policy]string)
	for policy, q := range ranges {
		job, err := r.create(q)
		if err != nil {
			return err
		}
		jobs[policy] = job.ID
		r.log.Info("what InfluxDB has lost is projected again from the journal", "policy", policy, "from", q.From, "to", q.To, "replay", job.ID)
	}
	return r.store.Settle(func(d *influx.Damage) {
		s, ok := settled[place{d.What, d.Found, d.Policy}]
		if !ok {
			return // found meanwhile
		}
		if s.Replay != "" {
			s.Replay = jobs[d.Policy]
		}
		s.Settled = true
		*d = s
		r.tell(s)
	})
}

// holds returns from when on the journal can write again what a policy holds.
func (r *repairer) holds(state journal.State, policy influx.Policy) time.Time {
	if state.Messages == 0 {
		return r.now().UTC()
	}
	if policy != influx.PolicyAggregate {
		return state.FirstTime
	}
	// A row has the time at which its window begins. It can be written again if the journal has the
	// whole window.
	start := time.Unix(0, state.FirstTime.UnixNano()-state.FirstTime.UnixNano()%int64(r.interval)).UTC()
	if state.FirstSeq > 1 && start.Before(state.FirstTime) {
		return start.Add(r.interval)
	}
	return start
}

// span returns the part of the time of a damage that InfluxDB would still keep. The end is
// excluded.
func (r *repairer) span(d influx.Damage) (from, to time.Time) {
	if d.Policy == "" {
		return from, to
	}
	from, to = d.From, d.To.Add(1)
	if keep := r.keeps[d.Policy]; keep > 0 {
		from = later(from, r.now().UTC().Add(-keep))
	}
	return from, to
}

// tell counts a damage and logs what is lost.
func (r *repairer) tell(d influx.Damage) {
	policy := string(d.Policy)
	if policy == "" {
		policy = "none"
	}
	r.metrics.found.WithLabelValues(policy).Inc()
	if d.LostFrom.IsZero() {
		if d.From.IsZero() && d.Policy != "" {
			r.log.Warn("what InfluxDB holds cannot be verified; what the journal has of it is projected again", "what", d.What, "why", d.Why, "policy", d.Policy)
		}
		return
	}
	r.metrics.lost.WithLabelValues(policy).Add(d.LostTo.Sub(d.LostFrom).Seconds())
	r.log.Error("InfluxDB has lost points, and the journal does not hold them any more", "what", d.What, "why", d.Why, "policy", d.Policy,
		"from", d.LostFrom, "to", d.LostTo, "aside", d.Aside)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// damages returns what /status says of the files of an embedded InfluxDB, and of everything that
// any InfluxDB held and lost.
func (a *App) damages() []query.Damage {
	found := a.wiped.get()
	if store, ok := a.store.(*embedded.Store); ok {
		found = store.Damages()
	}
	var list []query.Damage
	for _, d := range found {
		list = append(list, query.Damage{
			Found: d.Found, What: d.What, Why: d.Why, Aside: d.Aside, Projection: replayOf(d.Policy), From: d.From, To: d.To,
			Replay: d.Replay, LostFrom: d.LostFrom, LostTo: d.LostTo,
		})
		if d.Policy == "" {
			list[len(list)-1].Projection = ""
		}
	}
	return list
}

// stateDamages returns what /status says of the state file.
func stateDamages(damages []migrations.Damage) (list []query.StateDamage) {
	for _, d := range damages {
		list = append(list, query.StateDamage{Found: d.Found, What: d.What, Effect: d.Effect})
	}
	return list
}
