package kapa

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/retry"
)

const (
	checkEvery = 30 * time.Second // how often Kapacitor is compared with the state file when all is well
	firstPause = time.Second      // after a failure
)

// kapacitor brings a Kapacitor to what the store says. Its goroutine is the only one that asks Kapacitor anything, so
// that no two changes of a task cross.
type kapacitor struct {
	client *client
	store  *Store
	prefix string // of our tasks' ids: this installation's and nobody else's
	stored spelling
	log    *slog.Logger
	poked  chan struct{} // holds one: something in the store changed

	passes, failures prometheus.Counter
	pending          prometheus.Gauge

	mu     sync.Mutex           // guards what follows
	states map[string]taskState // by alert
	down   error                // why the last pass could not be made, nil if it was
}

type taskState struct {
	state State
	err   string
}

func newKapacitor(c *client, store *Store, o Options) *kapacitor {
	k := &kapacitor{client: c, store: store, stored: spelling{o.Stored, o.StoredMeasurement}, log: o.Logger, poked: make(chan struct{}, 1),
		prefix: "pulse-" + o.Instance + "-", states: map[string]taskState{},
		passes: prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_kapa_kapacitor_passes_total",
			Help: "Times that the tasks in Kapacitor were compared with the alerts."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_kapa_kapacitor_failures_total",
			Help: "Times that this failed, for all alerts or for one."}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_kapa_kapacitor_pending_alerts",
			Help: "Alerts that do not run in Kapacitor."}),
	}
	o.Registerer.MustRegister(k.passes, k.failures, k.pending)
	return k
}

// changed tells the goroutine that the store changed. The alert is pending until Kapacitor has it.
func (k *kapacitor) changed(id string) {
	k.mu.Lock()
	delete(k.states, id)
	k.mu.Unlock()
	k.poke()
}

func (k *kapacitor) poke() {
	select {
	case k.poked <- struct{}{}:
	default: // it will look anyway
	}
}

// status is the alert's as of the last pass.
func (k *kapacitor) status(id string) Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.states[id]
	if k.down != nil || !ok {
		s = taskState{state: Pending}
		if k.down != nil {
			s.err = k.down.Error()
		}
	}
	return Status{State: s.state, Error: s.err}
}

// run makes passes until ctx ends.
func (k *kapacitor) run(ctx context.Context) {
	defer k.client.close()
	var failures retry.Failures
	backoff := retry.Backoff{First: firstPause, Last: time.Minute}
	for {
		changed, err := k.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := checkEvery
		if err != nil {
			k.failures.Inc()
			pause = backoff.Pause(failures.Add())
			if failures.MayLog() {
				failures.Logged()
				k.log.Warn("alerts do not run as they should; retrying", "error", err, "failures", failures.Count())
			}
		} else if n, logged := failures.End(); logged {
			k.log.Info("kapacitor recovered: all alerts run", "failures", n)
		}
		if changed && err == nil {
			pause = firstPause // what just began may end at once
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.poked:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// pass compares once, changes what differs, and notes how each alert is. Every step leaves Kapacitor such that the
// next pass goes on from there: what was stored by a request that failed is found by listing.
func (k *kapacitor) pass(ctx context.Context) (changed bool, err error) {
	k.passes.Inc()
	have, alerts, err := k.look(ctx)
	if err == nil {
		if changed, err = k.change(ctx, have, alerts); changed {
			if again, lookErr := k.client.tasks(ctx, k.prefix); lookErr != nil {
				err = lookErr
			} else {
				have = again
			}
		}
	}
	var each alertErrors
	if err == nil || errors.As(err, &each) {
		err = notRunning(have, alerts, k.prefix, each)
	}
	k.note(alerts, err)
	return changed, err
}

// notRunning adds the alerts whose tasks were taken but do not run.
func notRunning(have map[string]task, alerts []Alert, prefix string, each alertErrors) error {
	for i := range alerts {
		id := alerts[i].ID
		t := have[prefix+id]
		if t.Executing && t.Error == "" || slices.ContainsFunc(each, func(e *alertError) bool { return e.id == id }) {
			continue
		}
		each = append(each, &alertError{id, fmt.Errorf("kapacitor does not run its task %s: %s", prefix+id, cmp.Or(strings.TrimSpace(cut.Text(t.Error, maxSaid)), "it does not say why"))})
	}
	if len(each) == 0 {
		return nil
	}
	return each
}

func (k *kapacitor) look(ctx context.Context) (map[string]task, []Alert, error) {
	// First the tasks: an alert that is made in between is created in the next pass, not deleted in this one.
	have, err := k.client.tasks(ctx, k.prefix)
	if err != nil {
		return nil, nil, err
	}
	alerts, err := k.store.List()
	if err != nil {
		return nil, nil, err
	}
	if len(alerts) > 0 {
		err = k.client.ensureTemplate(ctx)
	}
	return have, alerts, err
}

// alertError is the failure of one alert among others.
type alertError struct {
	id  string
	err error
}

func (e *alertError) Error() string { return fmt.Sprintf("alert %s: %v", e.id, e.err) }
func (e *alertError) Unwrap() error { return e.err }

// alertErrors are those of one pass.
type alertErrors []*alertError

func (e alertErrors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	return fmt.Sprintf("%v (and %d more alerts)", e[0], len(e)-1)
}

// change makes the tasks what they should be. A failure of one alert does not stop the others, silence of
// Kapacitor does.
func (k *kapacitor) change(ctx context.Context, have map[string]task, alerts []Alert) (changed bool, err error) {
	var failed alertErrors
	wanted := map[string]bool{}
	for i := range alerts {
		id := k.prefix + alerts[i].ID
		wanted[id] = true
		did, err := k.changeOne(ctx, id, have, &alerts[i])
		changed = changed || did
		var answer *KapacitorError
		if errors.As(err, &answer) && answer.Status == 0 {
			return changed, err
		}
		if err != nil {
			failed = append(failed, &alertError{alerts[i].ID, err})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(have)) {
		if wanted[id] {
			continue
		}
		changed = true
		if err := k.client.deleteTask(ctx, id); err != nil {
			return changed, err
		}
	}
	if len(failed) > 0 {
		return changed, failed
	}
	return changed, nil
}

func (k *kapacitor) changeOne(ctx context.Context, id string, have map[string]task, a *Alert) (changed bool, err error) {
	want := task{ID: id, TemplateID: templateID(), DBRPs: []dbrp{{database, rawPolicy}}, Vars: variables(a, k.stored), Status: "enabled"}
	is, ok := have[id]
	if !ok {
		return true, k.client.createTask(ctx, want)
	}
	same := sameVariables(is.Vars, want.Vars)
	if same && is.Status == want.Status && is.Executing {
		return false, nil
	}
	// A running task keeps its old script until it is disabled and enabled; one that died is started by the same.
	if is.Status != "disabled" {
		if err := k.client.patchTask(ctx, id, "disable task", map[string]any{"status": "disabled"}); err != nil {
			return true, err
		}
	}
	if !same {
		change := map[string]any{"template-id": want.TemplateID, "vars": want.Vars, "dbrps": want.DBRPs}
		if err := k.client.patchTask(ctx, id, "update task", change); err != nil {
			return true, err
		}
	}
	err = k.client.patchTask(ctx, id, "enable task", map[string]any{"status": "enabled"})
	if err == nil && same && is.Error != "" {
		// It runs now; whether it goes on running the next pass sees.
		err = fmt.Errorf("kapacitor ended its task, and it was started again: %s", strings.TrimSpace(cut.Text(is.Error, maxSaid)))
	}
	return true, err
}

// sameVariables compares as JSON, as which Kapacitor gives them back.
func sameVariables(is, want map[string]variable) bool {
	return maps.EqualFunc(is, want, func(is, want variable) bool {
		a, errA := json.Marshal(is)
		b, errB := json.Marshal(want)
		return errA == nil && errB == nil && bytes.Equal(a, b)
	})
}

// note keeps what the pass found.
func (k *kapacitor) note(alerts []Alert, err error) {
	var each alertErrors
	isEach := errors.As(err, &each)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = nil
	if err != nil && !isEach {
		k.down = err
		k.pending.Set(float64(len(alerts)))
		return
	}
	clear(k.states)
	for i := range alerts {
		s := taskState{state: Executing}
		if alerts[i].Deadman != 0 { // made when there was no Kapacitor
			s.err = "deadman is not watched: only the built-in evaluator has it, and --kapacitor-address is set"
		}
		k.states[alerts[i].ID] = s
	}
	for _, e := range each {
		k.states[e.id] = taskState{Failed, e.err.Error()}
	}
	k.pending.Set(float64(len(each)))
}
