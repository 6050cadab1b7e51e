package influx

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
func readRange(ctx context.Context, source projector.Source, x extent, visit func(records []journal.Record, missing uint64) error) (err error) {
	reader, err := source.ReadFrom(x.first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for next := x.first; next <= x.last; {
		records, err := readSome(ctx, source, reader, readPatience)
		found := x.last + 1 // the next record there is
		if gap, ok := errors.AsType[*journal.GapError](err); ok {
			if gap.Reason != journal.GapRewound {
				found = min(gap.To+1, found)
			}
		} else if err != nil {
			return err
		} else if len(records) > 0 { // else there are no more
			found = min(records[0].Seq, found) // a journal without its first record begins with the oldest it has
		}
		n := 0
		for n < len(records) && records[n].Seq <= x.last {
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

// union sorts extents and joins those that touch, or have at most gap records between them.
func union(list []extent, gap uint64) []extent {
	slices.SortFunc(list, func(a, b extent) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	var out []extent
	for _, x := range list {
		if n := len(out); n > 0 && x.first <= out[n-1].last+1+gap {
			out[n-1].last = max(out[n-1].last, x.last)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// bounded joins the closest extents of a union until there are at most n.
func bounded(list []extent, n int) []extent {
	for len(list) > n {
		closest := 1
		for i := 2; i < len(list); i++ {
			if list[i].first-list[i-1].last < list[closest].first-list[closest-1].last {
				closest = i
			}
		}
		list[closest-1].last = list[closest].last
		list = slices.Delete(list, closest, closest+1)
	}
	return list
}

// clip is what of extents lies in [first, last].
func clip(list []extent, first, last uint64) []extent {
	var out []extent
	for _, x := range list {
		if x.first, x.last = max(x.first, first), min(x.last, last); x.first <= x.last {
			out = append(out, x)
		}
	}
	return out
}

// size counts the records of a union.
func size(list []extent) uint64 {
	var n uint64
	for _, x := range list {
		n += x.last - x.first + 1
	}
	return n
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
