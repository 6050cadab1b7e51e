package journal

import (
	"context"
	"errors"
	"time"
)

const (
	// rangeRead is how many records Range hands over at a time at most.
	rangeRead = 1000
	// rangePatience is how long Range waits for a record before it asks whether the record is
	// there.
	rangePatience = 2 * time.Second
	// rangeRounds is how often Range asks before it gives up on records that are there and do not
	// come.
	rangeRounds = 5
)

// errQuiet means that the server says that it has records, and does not send them.
var errQuiet = errors.New("the server does not give the records")

// Range visits the records of span in order, up to the newest event that is durable when Range is
// called. Numbers above that event are not visited: a span up to math.MaxUint64 is the whole rest
// of the journal. An empty span visits nothing.
//
// visit gets the next records, at most a thousand, or a gap with the next numbers that the journal
// does not have. The records are valid until the next visit returns. Every number of the span is
// visited once, in a record or in a gap, from number 1 on. A gap is cut to the span.
//
// If the journal loses its end meanwhile, the last visit is a gap of [GapRewound] from the first
// lost number on. These numbers are used again; records of them may have been visited before.
//
// A restart of the server inside is not seen. Range ends with the first error of visit, and with
// errors as [Reader.Read] has them. It is safe from any goroutine; visit is called from the one
// that called Range.
func (j *Journal) Range(ctx context.Context, span Span, visit func(records []Record, gap *GapError) error) error {
	_, _, rewinds := j.runs.get()
	last, _, _ := j.durable.get()
	span = Span{First: max(span.First, 1), Last: min(span.Last, last)}
	if span.Records() == 0 {
		return nil
	}
	reader, err := j.ReadFrom(span.First)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // it is always nil
	end := span.Last                      // lower if the journal loses its end
	for next := span.First; next <= end; {
		records, err := reader.readSome(ctx)
		gap, isGap := errors.AsType[*GapError](err)
		end = min(end, j.runs.lowestEnd(len(rewinds)))
		if isGap && gap.Reason == GapRewound {
			end = min(end, gap.From-1)
		}
		if next > end {
			break
		}
		switch {
		case isGap:
			gap = &GapError{From: next, To: min(gap.To, end), Reason: gap.Reason}
		case err != nil:
			return err
		case len(records) == 0: // the last ones of the journal are missing
			gap = &GapError{From: next, To: end, Reason: GapLost}
			_ = reader.report(gap)
		}
		for len(records) > 0 && records[len(records)-1].Seq > end {
			records = records[:len(records)-1]
		}
		if gap != nil {
			next = gap.To + 1
		} else {
			next = records[len(records)-1].Seq + 1
		}
		if err := visit(records, gap); err != nil {
			return err
		}
	}
	if end < span.Last {
		return visit(nil, &GapError{From: end + 1, To: span.Last, Reason: GapRewound})
	}
	return nil
}

// readSome is Read, and returns neither records nor an error when the journal has no more.
func (r *Reader) readSome(ctx context.Context) ([]Record, error) {
	for rounds := 0; rounds < rangeRounds; {
		wait, cancel := context.WithTimeout(ctx, rangePatience)
		records, err := r.Read(wait, rangeRead)
		late := wait.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return records, err
		}
		more := r.Pending() > 0
		// A server that does not answer is no proof. State comes last: what it answers for was set
		// back before, if at all.
		switch _, err := r.j.State(ctx); {
		case errors.Is(err, ErrUnavailable): // Read waits for the next run
		case err != nil:
			return nil, err
		case !more:
			return nil, nil
		default:
			rounds++
		}
	}
	return nil, &Error{Op: "read", Dir: r.j.o.Dir, Kind: ErrServer, Err: errQuiet}
}
