package kapa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
)

// Options of New. DB and Instance are required, and Journal unless there is a Kapacitor.
type Options struct {
	DB *bbolt.DB // the state file, with the bucket "alerts"
	// Instance tells the tasks of this installation in a Kapacitor from others': letters, digits, up
	// to 64. It must stay the same.
	Instance string
	// Kapacitor is its address, as http://127.0.0.1:9092 (user:password@ for auth); "" is the
	// built-in evaluator.
	Kapacitor string
	// Stored turns a name into what InfluxDB holds of it, StoredMeasurement that of a measurement
	// (nil: the name itself). Kapacitor reads from there.
	Stored, StoredMeasurement func(string) string
	// Edges reports that this Pulse is a hub, so that a Kapacitor has to tell the hosts of edges apart.
	Edges bool
	// Journal is where the evaluator checks whether it has read everything, and what trials read.
	Journal Past
	// Transport sends the posts of the evaluator (nil: one of its own).
	Transport  http.RoundTripper
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil is a private registry
	Now        func() time.Time      // nil is time.Now
}

// instanceText keeps ids within what Kapacitor takes in an id, and the special characters of its
// patterns out of the prefix.
var instanceText = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

func (o Options) withDefaults() (Options, error) {
	if o.DB == nil || !instanceText.MatchString(o.Instance) {
		return o, errors.New("kapa: Options needs a DB, and an Instance of 1 to 64 letters and digits")
	}
	if o.Kapacitor == "" && o.Journal == nil {
		return o, errors.New("kapa: Options needs a Journal or a Kapacitor")
	}
	asItIs := func(s string) string { return s }
	if o.Stored == nil {
		o.Stored = asItIs
	}
	if o.StoredMeasurement == nil {
		o.StoredMeasurement = asItIs
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
	return o, nil
}

// backend is what watches the alerts: a Kapacitor, or the built-in evaluator. Its methods may be
// called from any goroutine.
type backend interface {
	// put keeps a valid alert in the store, as store.put does, and watches it from then on. It does
	// not wait for anything outside. A *FieldError says what the backend cannot watch.
	put(Alert) (Alert, error)
	// remove takes an alert out of the store and watches it no more; ErrNotFound if there is none.
	remove(id string) error
	// status reports how an alert is doing, with the groups that are not OK if each is set. warning
	// is not empty if something of the alert is not watched.
	status(id string, each bool) (s Status, warning string)
	// run does the backend's work with the world outside until ctx ends.
	run(ctx context.Context)
}

// Alerts are the alerts of this installation with what watches them. Methods may be called from any
// goroutine.
type Alerts struct {
	store   *store
	backend backend
	past    Past // nil with a Kapacitor and no journal

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex // guards what follows
	begun  bool
}

// New opens the alerts and starts nothing. The error says which option is wrong, or what the state
// file said.
func New(o Options) (*Alerts, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Alerts{past: o.Journal}
	if a.store, err = openStore(o.DB); err != nil {
		return nil, err
	}
	if o.Kapacitor != "" {
		a.backend, err = newKapacitor(a.store, o)
	} else {
		a.backend, err = newEvaluator(a.store, o)
	}
	if err != nil {
		return nil, err
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Projection is the evaluator, for a runner that begins at its saved position. It is nil when
// Kapacitor does the work.
func (a *Alerts) Projection() *Evaluator {
	e, _ := a.backend.(*Evaluator)
	return e
}

// Start begins to talk to Kapacitor, or to deliver what is to be posted. The runner of Projection
// starts the evaluator.
func (a *Alerts) Start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begun || a.ctx.Err() != nil {
		return
	}
	a.begun = true
	a.done.Go(func() { a.backend.run(a.ctx) })
}

// Stop ends what Start began and waits for it, until ctx ends at most. What was not delivered is
// delivered after the next start. Stop may be called twice.
func (a *Alerts) Stop(ctx context.Context) error {
	a.mu.Lock()
	a.cancel()
	a.mu.Unlock()
	ended := make(chan struct{})
	go func() { a.done.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kapa: a request did not end in time: %w", context.Cause(ctx))
	}
}

// Create keeps a new alert and gives it an id. It returns before Kapacitor has the alert, whose
// state is pending until then. The error is a *FieldError, ErrTooMany, or the state file's.
func (a *Alerts) Create(alert Alert) (View, error) {
	if alert.ID != "" {
		return View{}, fieldError("id", "left out: it is given by the server, and PUT changes an alert that exists")
	}
	return a.put(alert)
}

// Update replaces the alert that has the id. An alert that fires goes on firing until its next
// evaluation. Renaming an alert starts it again at OK, because receivers identify an alert by its
// name. The error is a *FieldError, ErrNotFound, or the state file's.
func (a *Alerts) Update(alert Alert) (View, error) {
	if alert.ID == "" {
		return View{}, fieldError("id", "that of the alert to change")
	}
	return a.put(alert)
}

func (a *Alerts) put(alert Alert) (View, error) {
	alert = alert.withDefaults()
	if err := alert.validate(); err != nil {
		return View{}, err
	}
	alert, err := a.backend.put(alert)
	if err != nil {
		return View{}, err
	}
	return a.view(alert, true), nil
}

// Delete forgets an alert and its queued posts. The error is ErrNotFound or the state file's.
func (a *Alerts) Delete(id string) error { return a.backend.remove(id) }

// Get returns one alert, or ErrNotFound.
func (a *Alerts) Get(id string) (View, error) {
	alert, err := a.store.get(id)
	if err != nil {
		return View{}, err
	}
	return a.view(alert, true), nil
}

// List returns all alerts, ordered by id; an empty slice if there are none.
func (a *Alerts) List() ([]View, error) {
	alerts, err := a.store.list()
	if err != nil {
		return nil, err
	}
	views := make([]View, len(alerts))
	for i := range alerts {
		views[i] = a.view(alerts[i], false)
	}
	return views, nil
}

// view adds the status to an alert, with the groups that are not OK if each is set.
func (a *Alerts) view(alert Alert, each bool) View {
	v := View{Alert: alert}
	v.Status, v.Warning = a.backend.status(alert.ID, each)
	return v
}
