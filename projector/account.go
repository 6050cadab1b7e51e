package projector

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/metric"
	"github.com/nanopack/pulse/journal"
)

// Losses are what a projection could not apply.
type Losses struct {
	// Rejected counts records that could not be read or applied.
	Rejected uint64 `json:"-"`
	// Lost counts the records that were missing from the journal. Gaps are the newest such gaps.
	Lost uint64 `json:"lost"`
	Gaps []Gap  `json:"gaps"`
}

// Gap is a range of records that were missing from the journal when the projection came to them.
type Gap struct {
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Count  uint64    `json:"count"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// MarshalJSON shows the gap as the API does.
func (g Gap) MarshalJSON() ([]byte, error) {
	type plain Gap // without this method
	g.Time = apijson.Time(g.Time)
	return apijson.Marshal(plain(g))
}

// maxGaps is how many gaps are listed.
const maxGaps = 16

// plus returns the sum of two.
func (l Losses) plus(other Losses) Losses {
	gaps := slices.Concat(l.Gaps, other.Gaps)
	slices.SortStableFunc(gaps, func(a, b Gap) int { return a.Time.Compare(b.Time) })
	return Losses{Rejected: l.Rejected + other.Rejected, Lost: l.Lost + other.Lost, Gaps: gaps[max(0, len(gaps)-maxGaps):]}
}

// AccountOptions configure an Account. Projection is required.
type AccountOptions struct {
	// Projection is the projection's name.
	Projection string
	// Rejects lists the records that cannot be read or applied (nil: they are counted and logged only).
	Rejects *Rejects
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

// Account counts, logs and lists what becomes of the records of a projection. Its runner has one, and
// so has what fills in for the runner: the metrics of both add up. The methods may be called from any
// goroutine.
type Account struct {
	o   AccountOptions
	log *slog.Logger

	records, batches, failures, rejected, gaps, lost, stateFailures prometheus.Counter

	mu     sync.Mutex // guards what follows
	losses Losses
}

// NewAccount returns an account on which nothing is counted yet.
func NewAccount(o AccountOptions) *Account {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(o.Registerer, prometheus.NewCounter(prometheus.CounterOpts(opts(o.Projection, name, help))))
	}
	return &Account{
		o: o, log: o.Logger.With("projection", o.Projection),
		records:       counter("records_total", "Journal records applied."),
		batches:       counter("batches_total", "Batches applied."),
		failures:      counter("failures_total", "Temporary failures; each was followed by a back-off and another try."),
		rejected:      counter("rejected_records_total", "Records that could not be read or applied and were left behind."),
		gaps:          counter("gaps_total", "Gaps met in the journal."),
		lost:          counter("lost_records_total", "Records missing in those gaps."),
		stateFailures: counter("state_write_failures_total", "Positions or rejects that could not be saved in pulse.db."),
	}
}

// opts are a projection's own: its name is a constant label, so that projections share a registry.
func opts(projection, name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: "pulse", Subsystem: "projector", Name: name, Help: help,
		ConstLabels: prometheus.Labels{"projection": projection}}
}

// Losses returns what was counted so far.
func (a *Account) Losses() Losses {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.losses.plus(Losses{}) // with gaps of its own
}

// Applied counts a batch of records.
func (a *Account) Applied(records int) {
	a.batches.Inc()
	a.records.Add(float64(records))
}

// Failed counts a temporary failure.
func (a *Account) Failed() { a.failures.Inc() }

// NotSaved counts a write into pulse.db that failed.
func (a *Account) NotSaved() { a.stateFailures.Inc() }

// Gap counts records that are missing, and logs message about them.
func (a *Account) Gap(g *journal.GapError, message string) {
	a.gaps.Inc()
	a.lost.Add(float64(g.Missing()))
	a.log.Error(message, "from", g.From, "to", g.To, "count", g.Missing(), "reason", g.Reason)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.losses = a.losses.plus(Losses{Lost: g.Missing(), Gaps: []Gap{{g.From, g.To, g.Missing(), g.Reason, a.o.Now()}}})
}

// Unreadable lists those of the records that could not be decoded.
func (a *Account) Unreadable(records []journal.Record) {
	var rejects []Reject
	for i := range records {
		if rec := &records[i]; rec.Err != nil {
			rejects = append(rejects, Reject{Seq: rec.Seq, Reason: rec.Err.Error()})
		}
	}
	a.Reject(rejects...)
}

// Reject counts, logs and lists rejects. That they cannot be listed is logged, and stops nothing.
func (a *Account) Reject(rejects ...Reject) {
	if len(rejects) == 0 {
		return
	}
	for i := range rejects {
		rejects[i].Projection, rejects[i].Time = a.o.Projection, a.o.Now()
	}
	a.rejected.Add(float64(len(rejects)))
	a.mu.Lock()
	a.losses.Rejected += uint64(len(rejects))
	a.mu.Unlock()
	a.log.Error("records are left behind, see GET /rejects", "count", len(rejects), "first", rejects[0].Seq, "reason", rejects[0].Reason)
	if a.o.Rejects == nil {
		return
	}
	if err := a.o.Rejects.Add(rejects...); err != nil {
		a.NotSaved()
		a.log.Error("rejects cannot be listed", "error", err)
	}
}
