package past

import (
	"context"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// player reads chunks of the journal into a sink. It is for one goroutine.
type player struct {
	journal projector.Source
	sink    Sink

	chunk  Chunk // under way
	next   uint64
	played played
}

// played is what came of a chunk.
type played struct {
	Counts
	seen   Seen
	newest uint64 // the newest record that was offered, also of the chunks before
}

// batch is what one visit of a range got: records or a gap.
type batch struct {
	records []journal.Record
	gap     *journal.GapError
}

// play takes the sink through a chunk. A chunk that failed goes on where it was if it is the next
// one to be played; else it begins again. account counts the records, unless it is nil.
func (p *player) play(ctx context.Context, c Chunk, account *projector.Account) (played, error) {
	if p.next == 0 || p.chunk != c {
		p.next = 0
		if err := p.sink.Begin(c); err != nil {
			return played{}, err
		}
		p.chunk, p.next, p.played = c, c.First, played{newest: c.Newest}
	}
	if p.next <= c.Last {
		if err := p.read(ctx, account); err != nil {
			return played{}, err
		}
	}
	if p.next <= c.Last { // the journal ends before the chunk
		p.pass(&journal.GapError{From: p.next, To: c.Last, Reason: journal.GapRewound}, account)
	}
	if err := p.sink.End(); err != nil {
		return played{}, err
	}
	p.next = 0
	return p.played, nil
}

// read reads what is left of the chunk. The next batch is read while one is applied.
func (p *player) read(ctx context.Context, account *projector.Account) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches, ended := make(chan batch), make(chan error, 1)
	left := journal.Span{First: p.next, Last: p.chunk.Last}
	go func() {
		defer close(batches)
		ended <- p.journal.Range(ctx, left, func(records []journal.Record, gap *journal.GapError) error {
			select {
			case batches <- batch{records, gap}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	var err error
	for b := range batches {
		if err == nil {
			if err = p.take(ctx, b, account); err != nil {
				cancel()
			}
		}
	}
	if err != nil {
		return err
	}
	return <-ended
}

// take applies a batch, or counts a gap.
func (p *player) take(ctx context.Context, b batch, account *projector.Account) error {
	if b.gap != nil {
		p.pass(b.gap, account)
		return nil
	}
	ours, gone := p.ours(b.records)
	if len(ours) > 0 {
		done, err := p.sink.Apply(ctx, ours)
		p.played.Add(done)
		if err != nil {
			return err
		}
		p.played.newest = max(p.played.newest, ours[len(ours)-1].Seq)
	}
	p.played.Add(gone.Counts)
	for _, x := range gone.seen {
		p.played.seen = p.played.seen.Add(x, p.chunk.Quiet)
	}
	if account != nil {
		account.Unreadable(b.records)
		account.Applied(len(b.records))
	}
	p.next = b.records[len(b.records)-1].Seq + 1
	return nil
}

// pass goes on after records that are missing.
func (p *player) pass(gap *journal.GapError, account *projector.Account) {
	switch {
	case account == nil:
		p.played.Lost += gap.Missing()
	case gap.Reason != journal.GapRewound: // the runner meets that too, and counts it
		account.Gap(gap, gapMessage)
	}
	p.next = gap.To + 1
}

// ours are the records that belong to the chunk's range of time and its edge, and what is in them.
func (p *player) ours(records []journal.Record) (ours []journal.Record, gone played) {
	if p.chunk.To.IsZero() {
		return records, gone
	}
	from, to := p.chunk.From.UnixNano(), p.chunk.To.UnixNano()
	for _, rec := range records {
		if e := rec.Event; e != nil && e.Time >= from && e.Time < to && p.chunk.Takes(e.Edge) {
			gone.Events++
			gone.Readings += uint64(e.Readings())
			gone.seen = gone.seen.Add(Stretch{From: e.Time, To: e.Time}, p.chunk.Quiet)
			ours = append(ours, rec)
		}
	}
	return ours, gone
}

// gapMessage is logged with a gap in the recorded events.
const gapMessage = "records are missing from the journal before they could be filled in"
