package influx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

const (
	// readPatience is how long a reader waits for a record that should be there before it asks whether it is, endPatience
	// for one that may not be.
	readPatience = 2 * time.Second
	endPatience  = 200 * time.Millisecond
	// clockSlack is by how much an event's time and the time at which it was stored may be apart.
	clockSlack = time.Minute
	// maxRanges bounds the rows of records of one replay.
	maxRanges = 64
)

var errQuiet = errors.New("the journal does not give its records")

// readRange visits the records first to last of the journal in order, some at a time; missing counts those that came to be
// missing before them (records may be empty then). An error of visit ends it.
func readRange(ctx context.Context, source projector.Source, x journal.Span, visit func(records []journal.Record, missing uint64) error) (err error) {
	reader, err := source.ReadFrom(x.First)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for next := x.First; next <= x.Last; {
		records, err := readSome(ctx, source, reader, readPatience)
		found := x.Last + 1 // the next record there is
		if gap, ok := errors.AsType[*journal.GapError](err); ok {
			if gap.Reason != journal.GapRewound {
				found = min(gap.To+1, found)
			}
		} else if err != nil {
			return err
		} else if len(records) > 0 { // else there are no more
			found = next
		}
		n := 0
		for n < len(records) && records[n].Seq <= x.Last {
			n++
		}
		if err := visit(records[:n], found-next); err != nil {
			return err
		}
		if next = found; n > 0 {
			next = records[n-1].Seq + 1
		}
	}
	return nil
}

// readSome reads records; none and no error means that the journal has no more.
func readSome(ctx context.Context, source projector.Source, reader projector.Reader, patience time.Duration) ([]journal.Record, error) {
	for range 5 {
		wait, cancel := context.WithTimeout(ctx, patience)
		records, err := reader.Read(wait, scanBatch)
		late := wait.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return records, err
		}
		if _, err := source.State(ctx); err != nil {
			return nil, err // a journal that does not answer is no proof
		}
		if reader.Pending() == 0 {
			return nil, nil
		}
	}
	return nil, errQuiet
}

// firstAt finds the first record that was stored at t or later; behind the end if there is none.
func firstAt(ctx context.Context, source projector.Source, state journal.State, t time.Time) (seq uint64, err error) {
	if !state.LastTime.IsZero() && state.LastTime.Before(t) {
		return state.LastSeq + 1, nil
	}
	reader, err := source.ReadFromTime(t)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	records, err := readSome(ctx, source, reader, endPatience)
	if gap, ok := errors.AsType[*journal.GapError](err); ok {
		return gap.From, nil
	}
	if err != nil {
		return 0, err
	}
	if len(records) == 0 {
		return state.LastSeq + 1, nil
	}
	return records[0].Seq, nil
}

// extentNotes say what of a range lies before or after all that the journal has; nil if nothing does.
func extentNotes(state journal.State, from, to time.Time) []string {
	first, last := state.FirstTime, state.LastTime
	switch {
	case state.LastSeq == 0:
		return []string{"the journal is empty"}
	case first.IsZero() && state.FirstSeq <= 1:
		return nil
	case first.IsZero():
		return []string{fmt.Sprintf("the journal begins with record %d; what was before is not in it", state.FirstSeq)}
	case from.Before(first) && (state.FirstSeq > 1 || !first.Before(to)):
		return []string{fmt.Sprintf("the journal begins at %s; what was before is not in it", first.UTC().Format(time.RFC3339))}
	case !last.IsZero() && last.Before(from):
		return []string{fmt.Sprintf("the journal ends at %s", last.UTC().Format(time.RFC3339))}
	}
	return nil
}
