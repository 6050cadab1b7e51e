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

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/internal/retry"
)

const (
	checkEvery = 30 * time.Second // how often Kapacitor is compared with the state file when all is well
	firstPause = time.Second      // after a failure
)

// kapacitor brings a Kapacitor to what the store says. Only its goroutine asks Kapacitor anything,
// so that no two changes of a task cross.
type kapacitor struct {
	client  *client
	store   *store
	prefix  string // of our tasks' ids: this installation's and nobody else's
	stored  spelling
	edges   bool // there are relays of edges
	log     *slog.Logger
	wakeup  // something in the store changed
	metrics kapacitorMetrics

	mu       sync.Mutex        // guards what follows
	statuses map[string]Status // by alert, as of the last pass
	down     error             // why the last pass could not be made, nil if it was
}

func newKapacitor(store *store, o Options) (*kapacitor, error) {
	c, err := newClient(o.Kapacitor)
	if err != nil {
		return nil, err
	}
	return &kapacitor{client: c, store: store, prefix: "pulse-" + o.Instance + "-", stored: spelling{o.Stored, o.StoredMeasurement}, edges: o.Edges,
		log: o.Logger, wakeup: newWakeup(), metrics: newKapacitorMetrics(o.Registerer), statuses: map[string]Status{}}, nil
}

const noDeadman = "only the built-in evaluator has it, and --kapacitor-address is set"

// put keeps an alert. The alert is pending until Kapacitor has it.
func (k *kapacitor) put(a Alert) (Alert, error) {
	if a.Deadman != 0 {
		return a, fieldError("deadman", "left out: "+noDeadman)
	}
	a, err := k.store.put(a, nil)
	if err == nil {
		k.changed(a.ID)
	}
	return a, err
}

func (k *kapacitor) remove(id string) error {
	err := k.store.remove(id)
	if err == nil {
		k.changed(id)
	}
	return err
}

// changed tells the goroutine that the store changed.
func (k *kapacitor) changed(id string) {
	k.mu.Lock()
	delete(k.statuses, id)
	k.mu.Unlock()
	k.poke()
}

// status is the alert's as of the last pass.
func (k *kapacitor) status(id string, _ bool) (s Status, warning string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != nil {
		return Status{State: Pending, Error: k.down.Error()}, ""
	}
	if s, ok := k.statuses[id]; ok {
		return s, ""
	}
	return Status{State: Pending}, ""
}

// run makes passes until ctx ends.
func (k *kapacitor) run(ctx context.Context) {
	defer k.client.close()
	var failures retry.Failures
	backoff := retry.Backoff{First: firstPause, Last: time.Minute}
	for pause := time.Duration(0); ; {
		changed, err := k.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			k.metrics.failures.Inc()
			pause = backoff.Pause(failures.Add())
			if failures.MayLog() {
				failures.Logged()
				k.log.Warn("alerts do not run as they should; retrying", "error", err, "failures", failures.Count())
			}
		} else {
			if n, logged := failures.End(); logged {
				k.log.Info("kapacitor recovered: all alerts run", "failures", n)
			}
			pause = checkEvery
			if changed {
				pause = firstPause // what just began may end at once
			}
		}
		if !k.sleep(ctx, pause) {
			return
		}
	}
}

// pass compares once, changes what differs, and notes how each alert is. Every step leaves
// Kapacitor in a state from which the next pass goes on: a task that was stored by a request that
// failed is found by listing.
func (k *kapacitor) pass(ctx context.Context) (changed bool, err error) {
	k.metrics.passes.Inc()
	have, alerts, err := k.look(ctx)
	var failed alertErrors
	if err == nil {
		changed, failed, err = k.change(ctx, have, alerts)
	}
	if err == nil && changed {
		have, err = k.client.tasks(ctx, k.prefix)
	}
	if err == nil {
		failed = append(failed, k.notRunning(have, alerts, failed)...)
	}
	k.note(alerts, failed, err)
	if err == nil && len(failed) > 0 {
		err = failed
	}
	return changed, err
}

// look reads the tasks in Kapacitor, then the alerts. In this order, an alert that is made in
// between gets its task in the next pass; in the other order this pass would delete the task.
func (k *kapacitor) look(ctx context.Context) (map[string]task, []Alert, error) {
	have, err := k.client.tasks(ctx, k.prefix)
	if err != nil {
		return nil, nil, err
	}
	alerts, err := k.store.list()
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

// alertErrors are those of one pass.
type alertErrors []alertError

func (e alertErrors) Error() string {
	first := fmt.Sprintf("alert %s: %v", e[0].id, e[0].err)
	if len(e) == 1 {
		return first
	}
	return fmt.Sprintf("%s (and %d more alerts)", first, len(e)-1)
}

func (e alertErrors) has(id string) bool {
	return slices.ContainsFunc(e, func(one alertError) bool { return one.id == id })
}

// notRunning returns the alerts whose tasks were taken but do not run.
func (k *kapacitor) notRunning(have map[string]task, alerts []Alert, failed alertErrors) (more alertErrors) {
	for i := range alerts {
		id := alerts[i].ID
		t := have[k.prefix+id]
		if t.Executing && t.Error == "" || failed.has(id) {
			continue
		}
		more = append(more, alertError{id, fmt.Errorf("kapacitor does not run its task %s: %s", k.prefix+id, cmp.Or(t.said(), "it does not say why"))})
	}
	return more
}

// change makes the tasks what they should be. A failure of one alert does not stop the others. If
// Kapacitor does not answer at all, err stops the pass.
func (k *kapacitor) change(ctx context.Context, have map[string]task, alerts []Alert) (changed bool, failed alertErrors, err error) {
	wanted := map[string]bool{}
	for i := range alerts {
		id := k.prefix + alerts[i].ID
		wanted[id] = true
		did, err := k.changeOne(ctx, id, have, &alerts[i])
		changed = changed || did
		var answer *KapacitorError
		if errors.As(err, &answer) && answer.Status == 0 {
			return changed, nil, err
		}
		if err != nil {
			failed = append(failed, alertError{alerts[i].ID, err})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(have)) {
		if wanted[id] {
			continue
		}
		changed = true
		if err := k.client.deleteTask(ctx, id); err != nil {
			return changed, nil, err
		}
	}
	return changed, failed, nil
}

func (k *kapacitor) changeOne(ctx context.Context, id string, have map[string]task, a *Alert) (changed bool, err error) {
	want := task{ID: id, TemplateID: templateID(), DBRPs: []dbrp{{influxnames.Database, influxnames.Raw}}, Vars: variables(a, k.stored, k.edges), Status: "enabled"}
	is, ok := have[id]
	if !ok {
		return true, k.client.createTask(ctx, want)
	}
	same := sameVariables(is.Vars, want.Vars)
	if same && is.Status == want.Status && is.Executing {
		return false, nil
	}
	// A running task keeps its old script until it is disabled and enabled. A task that died is
	// started in the same way.
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
		// It runs now. The next pass sees whether it goes on running.
		err = fmt.Errorf("kapacitor ended its task, and it was started again: %s", is.said())
	}
	return true, err
}

// said is what Kapacitor says of a task that does not run, bounded.
func (t task) said() string { return strings.TrimSpace(cut.Text(t.Error, maxSaid)) }

// sameVariables compares as JSON, as which Kapacitor gives variables back.
func sameVariables(is, want map[string]variable) bool {
	return maps.EqualFunc(is, want, func(is, want variable) bool {
		a, errA := json.Marshal(is)
		b, errB := json.Marshal(want)
		return errA == nil && errB == nil && bytes.Equal(a, b)
	})
}

// note keeps what a pass found.
func (k *kapacitor) note(alerts []Alert, failed alertErrors, down error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down = down; down != nil {
		k.metrics.pending.Set(float64(len(alerts)))
		return
	}
	clear(k.statuses)
	for i := range alerts {
		s := Status{State: Executing}
		if alerts[i].Deadman != 0 { // made when there was no Kapacitor
			s.Error = "deadman is not watched: " + noDeadman
		}
		k.statuses[alerts[i].ID] = s
	}
	for _, e := range failed {
		k.statuses[e.id] = Status{State: Failed, Error: e.err.Error()}
	}
	k.metrics.pending.Set(float64(len(failed)))
}
