package past

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal/codec"
)

// Errors of Jobs; test with errors.Is.
var (
	// ErrInvalid is wrapped by errors that name the field of a Request and say what it may be.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: there is no job of that id (any more).
	ErrNotFound = errors.New("no such replay")
	// ErrTooMany: there are 16 unfinished jobs already.
	ErrTooMany = errors.New("too many replays are waiting")
	// ErrStopped: Stop was called.
	ErrStopped = errors.New("replays are stopped")
)

// State is where a job, or a part of it, is.
type State string

// The states of a job. The last three are final.
const (
	StateWaiting  State = "waiting" // for the jobs before it, or for a start
	StateRunning  State = "running"
	StateDone     State = "done"
	StateCanceled State = "canceled"
	StateFailed   State = "failed" // LastError says why it can never be done
)

func (s State) final() bool { return s == StateDone || s == StateCanceled || s == StateFailed }

// All names all targets in a Request.
const All = "all"

// Request asks for a replay.
type Request struct {
	// Projections are names of targets, or "all".
	Projections []string
	// From is included, To is not. To is now if it is zero. From must be before To and not in the
	// future.
	From, To time.Time
	// Edge names the edge of a hub whose events alone are meant ("": all events).
	Edge string
	// DryRun: count only.
	DryRun bool
}

// Validate says what is wrong with the range or the edge. The error is ErrInvalid.
func (q Request) Validate(now time.Time) error {
	now, from, to := now.UTC(), q.From.UTC(), q.To.UTC()
	if q.To.IsZero() {
		to = now
	}
	switch {
	case q.Edge != "" && !codec.ValidEdge(q.Edge):
		return &rangeError{fmt.Sprintf("edge must be the name of an edge: 1 to %d of A-Z a-z 0-9 _ -", codec.MaxEdge)}
	case from.Year() < firstYear || from.Year() > lastYear:
		return &rangeError{fmt.Sprintf("from must be a time between %d and %d", firstYear, lastYear)}
	case to.Year() > lastYear:
		return &rangeError{fmt.Sprintf("to must be a time between %d and %d", firstYear, lastYear)}
	case from.After(now):
		return &rangeError{fmt.Sprintf("from is %s, which is in the future: it is now %s", from.Format(time.RFC3339), now.Format(time.RFC3339))}
	case !from.Before(to):
		return &rangeError{fmt.Sprintf("from must be before to (from=%s, to=%s)", from.Format(time.RFC3339), to.Format(time.RFC3339))}
	}
	return nil
}

// rangeError says what is wrong with a range or an edge. It is ErrInvalid to errors.Is.
type rangeError struct{ text string }

func (e *rangeError) Error() string   { return e.text }
func (e *rangeError) Is(t error) bool { return t == ErrInvalid }

// Job is a replay as others see it. The JSON form is the API's. All times are UTC.
type Job struct {
	ID          string    `json:"id"`
	Projections []string  `json:"projections"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Edge        string    `json:"edge,omitempty"`
	DryRun      bool      `json:"dry_run"`
	State       State     `json:"state"`
	Created     time.Time `json:"created"`
	Started     time.Time `json:"started,omitzero"`
	Finished    time.Time `json:"finished,omitzero"`
	// Progress goes from 0 to 1.
	Progress float64 `json:"progress"`
	// SecondsLeft is an estimate from how it went since the start of the job (or of the server);
	// nil if there is none.
	SecondsLeft *float64 `json:"seconds_left"`
	// LastError is why the job failed, or what holds up one that is running: it tries again.
	LastError string `json:"last_error,omitempty"`
	Parts     []Part `json:"parts"`
}

// Part is one projection of a Job.
type Part struct {
	Projection string `json:"projection"`
	State      State  `json:"state"`
	Counts
	// EventsTotal is an estimate until the part is done.
	EventsTotal uint64 `json:"events_total"`
	// Notes are for people; never nil.
	Notes []string `json:"notes"`
}

// Ended reports whether nothing will change any more.
func (j Job) Ended() bool { return j.State.final() }

// MarshalJSON shows the part as the API does: how many events there are follows how many were gone over.
func (p Part) MarshalJSON() ([]byte, error) {
	return apijson.Marshal(struct {
		Projection  string `json:"projection"`
		State       State  `json:"state"`
		Events      uint64 `json:"events"` // in place of the one in Counts
		EventsTotal uint64 `json:"events_total"`
		Counts
		Notes []string `json:"notes"`
	}{p.Projection, p.State, p.Events, p.EventsTotal, p.Counts, append([]string{}, p.Notes...)})
}

// summary is what became of a part, for the log.
func (p Part) summary() string {
	text := fmt.Sprintf("%s: %d events, %d readings, %d points", p.State, p.Events, p.Readings, p.Points)
	for _, few := range []struct {
		name string
		n    uint64
	}{{"expired", p.Expired}, {"refused", p.Refused}, {"lost", p.Lost}} {
		if few.n > 0 {
			text += fmt.Sprintf(", %d %s", few.n, few.name)
		}
	}
	return text
}

// summary is what became of a job, for the log.
func (r *record) summary() []any {
	attrs := []any{"replay", r.ID, "state", r.State}
	var notes []string // many are of all parts
	for _, p := range r.Parts {
		attrs = append(attrs, p.Projection, p.summary())
		for _, note := range p.Notes {
			if !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	if len(notes) > 0 {
		attrs = append(attrs, "notes", strings.Join(notes, "; "))
	}
	return attrs
}

// maxNotes bounds the notes of a part.
const maxNotes = 16

func (p *Part) note(notes []string) {
	for _, n := range notes {
		if len(p.Notes) < maxNotes && !slices.Contains(p.Notes, n) {
			p.Notes = append(p.Notes, n)
		}
	}
}

// record is a job as it is stored. It is never changed once others can see it: a change makes
// another.
type record struct {
	Job
	Runs []progress `json:"runs"` // by part

	seq uint64
}

// progress is how far a part is.
type progress struct {
	Planned bool            `json:"planned"`
	Cursor  json.RawMessage `json:"cursor,omitempty"`
	Total   uint64          `json:"total"` // of Left, at the beginning
	Left    uint64          `json:"left"`
	// Seen are the stretches of time that there were events of, and Quiet what they were joined
	// with: 0 in a part that was planned by a Pulse that did not keep them.
	Seen  Seen          `json:"seen,omitempty"`
	Quiet time.Duration `json:"quiet,omitempty"`
}

func (r *record) clone() *record {
	c := *r
	c.Projections, c.Parts, c.Runs = slices.Clone(r.Projections), slices.Clone(r.Parts), slices.Clone(r.Runs)
	for i := range c.Parts {
		c.Parts[i].Notes = append([]string{}, c.Parts[i].Notes...)
		c.Runs[i].Seen = slices.Clone(c.Runs[i].Seen)
	}
	return &c
}

// left counts the records that are still to be gone over, of total.
func (r *record) left() (left, total uint64) {
	for _, p := range r.Runs {
		left, total = left+p.Left, total+p.Total
	}
	return left, total
}

// until is the end of the range, as far as it has come: nothing can be missing of the future.
func (r *record) until(now time.Time) time.Time {
	switch {
	case !now.Before(r.To):
		return r.To
	case now.Before(r.From): // the clock was set back
		return r.From
	}
	return now
}

// settle sets what follows from the rest.
func (r *record) settle() {
	left, total := r.left()
	switch {
	case r.State == StateDone:
		r.Progress = 1
	case total > 0:
		r.Progress = max(r.Progress, float64(total-min(left, total))/float64(total))
	}
	for i := range r.Parts {
		p := &r.Parts[i]
		p.EventsTotal = p.Events + r.Runs[i].Left
	}
}

// finish ends the job and the parts that have not ended.
func (r *record) finish(state State, now time.Time, why string) {
	r.State, r.Finished, r.LastError = state, now, why
	for i := range r.Parts {
		if !r.Parts[i].State.final() {
			r.Parts[i].State = state
		}
	}
}

// firstYear and lastYear bound what a time in nanoseconds can hold.
const firstYear, lastYear = 1970, 2261

// newRecord makes a job of a request; names are those of all targets.
func newRecord(q Request, names []string, now time.Time) (*record, error) {
	if err := q.Validate(now); err != nil {
		return nil, err
	}
	var projections []string
	for _, p := range q.Projections {
		if p == All {
			projections = slices.Clone(names)
			continue
		}
		if !slices.Contains(names, p) {
			return nil, fmt.Errorf("%w: projection is %q; it may be %s or all", ErrInvalid, p, strings.Join(names, ", "))
		}
		projections = append(projections, p)
	}
	if len(projections) == 0 {
		return nil, fmt.Errorf("%w: projection is missing; it may be %s or all", ErrInvalid, strings.Join(names, ", "))
	}
	slices.SortFunc(projections, func(a, b string) int { return slices.Index(names, a) - slices.Index(names, b) })
	projections = slices.Compact(projections)
	now = now.UTC()
	if q.To.IsZero() {
		q.To = now
	}
	r := &record{Job: Job{Projections: projections, From: q.From.UTC(), To: q.To.UTC(), Edge: q.Edge, DryRun: q.DryRun, State: StateWaiting, Created: now}}
	for _, p := range projections {
		r.Parts = append(r.Parts, Part{Projection: p, State: StateWaiting, Notes: []string{}})
		r.Runs = append(r.Runs, progress{})
	}
	return r, nil
}

func (r *record) number(seq uint64) { r.seq, r.ID = seq, strconv.FormatUint(seq, 10) }
