package projector

import (
	"context"
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
)

// Source is the journal as projections read it.
type Source interface {
	// State returns which sequence numbers the journal holds.
	State(ctx context.Context) (journal.State, error)
	// ReadFrom returns a reader whose first record is seq. A *journal.GapError comes first if seq
	// is not there.
	ReadFrom(seq uint64) (Reader, error)
	// ReadFromTime returns a reader whose first record was stored at t or later.
	ReadFromTime(t time.Time) (Reader, error)
	// Range visits the records of a span in order, and the gaps between them, up to the newest
	// record at the call; see journal.Range. Records are valid until the next visit returns.
	Range(ctx context.Context, s journal.Span, visit func([]journal.Record, *journal.GapError) error) error
}

// Reader reads the journal in order; see [journal.Reader], which is one.
type Reader interface {
	// Read blocks until there is a record or ctx ends, and returns at most max records, valid until
	// the Read after the next one. Other readers get the same events, so nobody may change them. A *journal.GapError comes instead of records that are missing;
	// the next Read goes on after the gap.
	Read(ctx context.Context, max int) ([]journal.Record, error)
	// Pending counts the records that are there and were not returned yet.
	Pending() uint64
	Close() error
}

// FromJournal makes a Source of a journal.
func FromJournal(j *journal.Journal) Source { return journalSource{j} }

type journalSource struct{ *journal.Journal }

func (s journalSource) ReadFrom(seq uint64) (Reader, error) {
	r, err := s.Journal.ReadFrom(seq)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s journalSource) ReadFromTime(t time.Time) (Reader, error) {
	r, err := s.Journal.ReadFromTime(t)
	if err != nil {
		return nil, err
	}
	return r, nil
}

const (
	// statePatience is how long a journal may take to say what it holds, where nothing depends on
	// it.
	statePatience = time.Second
	// endPatience is how long a look-up waits for a record that may not be there.
	endPatience = 200 * time.Millisecond
	// lookups bounds how often a look-up asks again.
	lookups = 5
	// lookupRecords is how many records it asks for.
	lookupRecords = 1000
)

// FirstAt returns the number of the first record that was stored at t or later, or the number after
// the last if there is none. The number may be that of a record that is missing.
func FirstAt(ctx context.Context, source Source, state journal.State, t time.Time) (seq uint64, err error) {
	if !state.LastTime.IsZero() && state.LastTime.Before(t) {
		return state.LastSeq + 1, nil
	}
	reader, err := source.ReadFromTime(t)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	records, err := readSome(ctx, source, reader)
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

// readSome reads records; none and no error means that the journal has no more.
func readSome(ctx context.Context, source Source, reader Reader) ([]journal.Record, error) {
	for range lookups {
		wait, cancel := context.WithTimeout(ctx, endPatience)
		records, err := reader.Read(wait, lookupRecords)
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

var errQuiet = errors.New("the journal does not give its records")

// timeOf is about when the first of the records was made, in ns since 1970; 0 if none says. What comes
// from a relay's past does not.
func timeOf(records []journal.Record) int64 {
	for i := range records {
		switch rec := &records[i]; {
		case rec.Event != nil && !rec.Event.Past:
			return rec.Event.Time
		case rec.Relay != nil:
			return rec.Relay.Time
		}
	}
	return 0
}

// stateSoon asks the journal what it holds, and gives up after statePatience.
func stateSoon(ctx context.Context, source Source) (journal.State, error) {
	ctx, cancel := context.WithTimeout(ctx, statePatience)
	defer cancel()
	return source.State(ctx)
}
