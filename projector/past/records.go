package past

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nanopack/pulse/journal"
)

const (
	// A step of a replay goes over at most maxStep records, and over so many that it has about
	// stepReadings readings, but not less than minStep records: it is saved and can be slowed down a
	// few times a second.
	maxStep      = 20_000
	minStep      = 200
	firstStep    = 2000
	stepReadings = 200_000
)

// byRecords is a View as a Target: its cursor is the spans of records that are left.
type byRecords struct {
	View
	player *player
	size   uint64 // of the next step
}

// recordsCursor is what is left to do.
type recordsCursor struct {
	// Ranges are the records, oldest first.
	Ranges [][2]uint64 `json:"ranges"`
	// Newest is the newest record of the range that was offered.
	Newest uint64 `json:"newest,omitempty"`
}

func encodeCursor(left journal.Spans, newest uint64) json.RawMessage {
	c := recordsCursor{Newest: newest}
	for _, s := range left {
		c.Ranges = append(c.Ranges, [2]uint64{s.First, s.Last})
	}
	b, _ := json.Marshal(c) // numbers always encode
	return b
}

// Plan implements Target.
func (t *byRecords) Plan(ctx context.Context, r Range) (Plan, error) {
	found, err := t.Find(ctx, r)
	if err != nil {
		return Plan{}, err
	}
	t.size = firstStep
	return Plan{Cursor: encodeCursor(found.Spans, 0), Left: found.Spans.Records(), Lost: found.Lost, Notes: found.Notes}, nil
}

// Step implements Target.
func (t *byRecords) Step(ctx context.Context, r Range, cursor json.RawMessage) (Step, error) {
	var c recordsCursor
	if err := json.Unmarshal(cursor, &c); err != nil {
		return Step{}, fmt.Errorf("%w: the cursor %q: %w", ErrInvalid, cursor, err)
	}
	var left journal.Spans
	for _, x := range c.Ranges {
		left = left.Add(journal.Span{First: x[0], Last: x[1]})
	}
	if len(left) == 0 {
		return Step{Done: true}, nil
	}
	if t.size == 0 {
		t.size = firstStep
	}
	chunk := newest(left, t.size)
	p, err := t.player.play(ctx, Chunk{Span: chunk, Range: r, Newest: c.Newest}, nil)
	if err != nil {
		return Step{}, err
	}
	t.size = min(max(stepReadings*chunk.Records()/max(p.Readings, 1), minStep), maxStep)
	left = left.Remove(chunk)
	return Step{Counts: p.Counts, Cursor: encodeCursor(left, p.newest), Done: len(left) == 0, Left: left.Records(), Seen: p.seen}, nil
}

// newest is the newest part of the newest span, at most size records; list is not empty.
func newest(list journal.Spans, size uint64) journal.Span {
	s := list[len(list)-1]
	if s.Records() > size {
		s.First = s.Last - size + 1
	}
	return s
}
