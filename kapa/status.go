package kapa

import (
	"fmt"
	"slices"
	"time"
)

// State says whether an alert is watched.
type State string

// The states.
const (
	Pending   State = "pending"   // Kapacitor does not have it yet, or does not answer
	Executing State = "executing" // it is watched
	Failed    State = "error"     // Kapacitor refuses it; Status.Error says why
)

// Status is how an alert is doing. What does not apply is left out.
type Status struct {
	State State  `json:"state"`
	Error string `json:"error,omitempty"`
	// Level is OK, INFO, WARNING or CRITICAL. Since is when it became that. Value is the last mean
	// that there was (built-in evaluator). For an alert with groups, Level is that of the worst
	// group, Since is that of the first one that became so, and there is no Value.
	Level string     `json:"level,omitempty"`
	Since *time.Time `json:"since,omitempty"`
	Value *float64   `json:"value,omitempty"`
	// Undelivered are the posts that still have to be delivered, LastDelivery is when the last one
	// was, and DeliveryError is why the last attempt failed if it did (built-in evaluator; Kapacitor
	// tries once and says nothing).
	Undelivered   int        `json:"undelivered,omitempty"`
	LastDelivery  *time.Time `json:"last_delivery,omitempty"`
	DeliveryError string     `json:"delivery_error,omitempty"`
	// Silent are relays that the deadman misses (at most 100 are listed).
	Silent []string `json:"silent,omitempty"`
	// Of an alert with groups: how many are watched, how many of them are not OK, and which (only in
	// an answer about one alert, at most 1,000, ordered by their tags).
	GroupsWatched *int    `json:"groups_watched,omitempty"`
	GroupsFiring  *int    `json:"groups_firing,omitempty"`
	Groups        []Group `json:"groups,omitempty"`
}

// Group is how a group of an alert is doing that is not OK.
type Group struct {
	Tags   map[string]string `json:"tags"`
	Level  string            `json:"level"`
	Since  time.Time         `json:"since"`
	Value  *float64          `json:"value,omitempty"`
	Silent []string          `json:"silent,omitempty"`
}

// Limits of what a status lists.
const (
	maxListedGroups = 1000
	maxListedSilent = 100
)

// View is an alert as the API shows it.
type View struct {
	Alert
	Status Status `json:"status"`
	// Warning says what is probably not as it was meant.
	Warning string `json:"warning,omitempty"`
}

// status is the alert's, and a warning if not all of its groups are watched.
func (e *Evaluator) status(id string, each bool) (s Status, warning string) {
	s = Status{State: Executing, Level: Level("").Word()}
	e.mu.Lock()
	if w := e.watches[id]; w != nil {
		warning = w.describe(&s, each)
	}
	e.mu.Unlock()
	e.deliverer.addStatus(id, &s)
	return s, warning
}

// describe fills in the status of the alert's groups.
func (w *watch) describe(s *Status, each bool) (warning string) {
	if g := w.only; g != nil {
		s.Level, s.Value, s.Silent = g.state.Level.Word(), g.state.Mean, listed(g.state.Silent)
		s.Since = timeOf(g.state.Since)
		return ""
	}
	watched, firing := len(w.groups), w.firing
	s.GroupsWatched, s.GroupsFiring = &watched, &firing
	if w.refused > w.evaluated-int64(max(w.alert.Every, minute)) && w.refused != 0 {
		warning = fmt.Sprintf("there are %d groups, as many as may be: readings of others are not watched", watched)
	}
	if firing == 0 {
		return warning
	}
	s.Level = w.alert.Level.Word()
	first := int64(0)
	var keys []string
	for key, g := range w.groups {
		if g.state.Level == "" {
			continue
		}
		if first == 0 || g.state.Since < first {
			first = g.state.Since
		}
		keys = append(keys, key)
	}
	s.Since = timeOf(first)
	if !each {
		return warning
	}
	slices.Sort(keys)
	for _, key := range keys[:min(len(keys), maxListedGroups)] {
		g := w.groups[key]
		shown := Group{Tags: g.tags(&w.alert), Level: g.state.Level.Word(), Since: time.Unix(0, g.state.Since).UTC(),
			Silent: listed(g.state.Silent)}
		if len(g.state.Silent) == 0 {
			shown.Value = g.state.Mean
		}
		s.Groups = append(s.Groups, shown)
	}
	return warning
}

// timeOf is the time that is ns since 1970, nil for 0.
func timeOf(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}

func listed(silent []string) []string {
	return relayNames(silent[:min(len(silent), maxListedSilent)])
}
