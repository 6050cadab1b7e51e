package kapa

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/journal"
)

const (
	// maxTrialPosts is how many posts a trial lists. It ends with the next one.
	maxTrialPosts = 1000
	// maxTrialWeight is the maxWeight of a trial: about 25 MB.
	maxTrialWeight = 512 << 10
	// maxTrialListed bounds the gaps and the notes of a trial, and the silent relays of a post.
	maxTrialListed = 20
)

// Past is the journal as trials read it.
type Past interface {
	Journal
	// FirstAt returns the number of the first record that was stored at t or later, or the number
	// after the last if there is none.
	FirstAt(ctx context.Context, t time.Time) (uint64, error)
	// Range visits records in order, as [journal.Journal] does. It returns the errors of visit.
	Range(ctx context.Context, span journal.Span, visit func([]journal.Record, *journal.GapError) error) error
}

// TrialRequest is what to try. From is before To.
type TrialRequest struct {
	Alert    Alert
	From, To time.Time
	Limit    time.Duration // how long the trial may take
}

// Trial is what an alert would have done in the past. The JSON form is the API's.
type Trial struct {
	// Alert is what was tried, with its defaults.
	Alert Alert `json:"alert"`
	// From and To are the range that was asked for. The alert was made at From, as it were, but its
	// first mean is over the readings before From too.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// JournalFrom is how far back the journal reaches. It is left out if the journal is empty.
	JournalFrom time.Time `json:"journal_from,omitzero"`
	// Reached is the last moment that was evaluated.
	Reached time.Time `json:"reached"`
	// Stopped says which limit ended the trial before To.
	Stopped string `json:"stopped,omitempty"`
	// Events and Readings are what was read, Matched are the readings that count for the alert.
	Events   uint64 `json:"events"`
	Readings uint64 `json:"readings"`
	Matched  uint64 `json:"matched"`
	// Groups are those that there were at the end, and Firing those of them that were not OK. An
	// alert without `by` is one group.
	Groups int `json:"groups"`
	Firing int `json:"firing"`
	// Lost are the events that the journal does not have, Gaps where (the first 20).
	Lost uint64     `json:"lost"`
	Gaps []TrialGap `json:"gaps"`
	// Posts are what would have been posted, in order.
	Posts []TrialPost `json:"posts"`
	// Notes say what else is to be known of the outcome.
	Notes []string `json:"notes,omitempty"`
}

// TrialGap is a range of numbers that the journal does not have. After is the time of the last event
// before it, and left out if there was none.
type TrialGap struct {
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Count  uint64    `json:"count"`
	Reason string    `json:"reason"`
	After  time.Time `json:"after,omitzero"`
}

// TrialPost is a post that would have been made. Time is the moment that was evaluated; the post
// follows a second later.
type TrialPost struct {
	Time          time.Time         `json:"time"`
	Name          string            `json:"name"` // the id in the post
	Tags          map[string]string `json:"tags,omitempty"`
	Level         string            `json:"level"`
	PreviousLevel string            `json:"previous_level"`
	Value         *float64          `json:"value,omitempty"`
	Silent        []string          `json:"silent,omitempty"` // the first 20
	Message       string            `json:"message"`
}

// errEnough ends a trial that has as many posts as it may list.
var errEnough = errors.New("enough posts")

// Try runs the built-in evaluator over the journal, also where Kapacitor watches the alerts. It
// changes nothing. It rests as long as it works, so that it takes half of a core at most. It ends
// with ctx, whose error it returns then. Any other error is the journal's, or a *FieldError.
func (a *Alerts) Try(ctx context.Context, q TrialRequest) (Trial, error) {
	alert := q.Alert.withDefaults()
	if err := alert.validateWatched(); err != nil {
		return Trial{}, err
	}
	if a.past == nil {
		return Trial{}, errors.New("kapa: a trial needs a Journal")
	}
	t, err := newTrial(ctx, a.past, alert, q)
	if err != nil {
		return Trial{}, err
	}
	if a.Projection() == nil {
		t.note("Kapacitor watches the alerts of this server: it may post at other moments than the built-in evaluator, which was tried")
	}
	limited, cancel := context.WithTimeout(ctx, q.Limit)
	defer cancel()
	err = t.run(limited, a.past)
	switch {
	case err == nil:
	case errors.Is(err, errEnough):
		t.out.Stopped = fmt.Sprintf("there are more than %d posts", maxTrialPosts)
	case ctx.Err() != nil:
		return Trial{}, ctx.Err()
	case limited.Err() != nil:
		t.out.Stopped = "it took longer than " + duration.Text(q.Limit)
	default:
		return Trial{}, err
	}
	return t.outcome(), nil
}
