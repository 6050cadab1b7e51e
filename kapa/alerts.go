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
	// Instance tells this installation's tasks in a Kapacitor from others': letters, digits, up to 64. It must stay the same.
	Instance string
	// Kapacitor is its address, as http://127.0.0.1:9092 (user:password@ for auth); "" is the built-in evaluator.
	Kapacitor string
	// Stored turns a name into what InfluxDB holds of it, StoredMeasurement that of a measurement (nil: the name itself).
	// Kapacitor reads from there.
	Stored, StoredMeasurement func(string) string
	// Journal is where the evaluator looks whether it has seen everything.
	Journal Journal
	// Transport sends the posts of the evaluator (nil: one of its own).
	Transport  http.RoundTripper
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil is a private registry
	Now        func() time.Time      // nil is time.Now
}

// instanceText keeps ids within what Kapacitor takes in one, and its patterns' signs out of the prefix.
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

// Alerts are the alerts of this installation with what watches them. Methods may be called from any goroutine.
type Alerts struct {
	store     *Store
	kapacitor *kapacitor // nil without
	evaluator *Evaluator // nil with a Kapacitor
	deliverer *deliverer // nil with a Kapacitor

	// change orders a change of the store and telling of it, so that the evaluator hears of changes in their order.
	change sync.Mutex

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex // guards what follows
	begun  bool
}

// New opens the alerts and starts nothing. The error says which option is wrong, or what the state file said.
func New(o Options) (*Alerts, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	var c *client
	if o.Kapacitor != "" {
		if c, err = newClient(o.Kapacitor); err != nil {
			return nil, err
		}
	}
	a := &Alerts{}
	if a.store, err = OpenStore(o.DB); err != nil {
		return nil, err
	}
	if c != nil {
		a.kapacitor = newKapacitor(c, a.store, o)
	} else {
		a.deliverer = newDeliverer(a.store, o)
		if a.evaluator, err = newEvaluator(a.store, a.deliverer, o); err != nil {
			return nil, err
		}
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Projection is the evaluator, for a runner that begins at its saved position; nil when Kapacitor does the work.
func (a *Alerts) Projection() *Evaluator { return a.evaluator }

// Start begins to talk to Kapacitor, or to deliver what is to be posted. The evaluator is the runner's to start.
func (a *Alerts) Start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begun || a.ctx.Err() != nil {
		return
	}
	a.begun = true
	if a.kapacitor != nil {
		a.done.Go(func() { a.kapacitor.run(a.ctx) })
	} else {
		a.done.Go(func() { a.deliverer.run(a.ctx) })
	}
}

// Stop ends it and waits, until ctx ends at most. What was not delivered is delivered after the next start. It may be called twice.
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

// Create keeps a new alert and gives it an id. It returns before Kapacitor has it: the state is pending then. The error
// is a *FieldError, ErrTooMany, or the state file's.
func (a *Alerts) Create(alert Alert) (View, error) { return a.put(alert, a.store.create) }

// Update replaces the alert that has the id. An alert that fires goes on firing, and is judged anew at its next
// evaluation; one that gets another name by it is another one to who is told, and begins at OK. The error is a
// *FieldError, ErrNotFound, or the state file's.
func (a *Alerts) Update(alert Alert) (View, error) { return a.put(alert, a.store.update) }

func (a *Alerts) put(alert Alert, write func(Alert, *keptState) (Alert, error)) (View, error) {
	if a.kapacitor != nil && alert.Deadman != 0 {
		return View{}, fieldError("deadman", "left out: only the built-in evaluator has it, and --kapacitor-address is set")
	}
	a.change.Lock()
	defer a.change.Unlock()
	var err error
	if a.kapacitor != nil {
		alert, err = write(alert, nil)
	} else {
		alert, err = a.evaluator.put(alert, write)
	}
	if err != nil {
		return View{}, err
	}
	if a.kapacitor != nil {
		a.kapacitor.changed(alert.ID)
	} else {
		a.deliverer.changed(alert.ID)
	}
	return a.view(alert, true), nil
}

// Delete forgets an alert and what it had still to post. The error is ErrNotFound or the state file's.
func (a *Alerts) Delete(id string) error {
	a.change.Lock()
	defer a.change.Unlock()
	if a.evaluator != nil {
		return a.evaluator.delete(id)
	}
	if err := a.store.Delete(id); err != nil {
		return err
	}
	a.kapacitor.changed(id)
	return nil
}

// Get returns one alert, or ErrNotFound.
func (a *Alerts) Get(id string) (View, error) {
	alert, err := a.store.Get(id)
	if err != nil {
		return View{}, err
	}
	return a.view(alert, true), nil
}

// List returns all alerts, ordered by id; an empty slice if there are none.
func (a *Alerts) List() ([]View, error) {
	alerts, err := a.store.List()
	if err != nil {
		return nil, err
	}
	views := make([]View, len(alerts))
	for i := range alerts {
		views[i] = a.view(alerts[i], false)
	}
	return views, nil
}
