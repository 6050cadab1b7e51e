package past

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// notes is a Sink that records its calls.
type notes struct {
	apply func(records []journal.Record) error // called before anything is recorded
	seqs  []uint64
	begun int
}

func (n *notes) Projection() string { return "p" }
func (n *notes) End() error         { return nil }

func (n *notes) Begin(Chunk) error {
	n.begun++
	return nil
}

func (n *notes) Apply(_ context.Context, records []journal.Record) (Counts, error) {
	if n.apply != nil {
		if err := n.apply(records); err != nil {
			return Counts{}, err
		}
	}
	for i := range records {
		n.seqs = append(n.seqs, records[i].Seq)
	}
	return Counts{Points: uint64(len(records))}, nil
}

func numbered(first, last uint64) (s []uint64) {
	for ; first <= last; first++ {
		s = append(s, first)
	}
	return s
}

func events(m *projectortest.Memory, n int) {
	for i := range n {
		m.Append(journaltest.Event("a", int64(i), "cpu", nil))
	}
}

// Missing records are counted once, at either end of the chunk and within it. Records after the
// last sequence of the journal are not counted here, because the runner counts them.
func TestAChunkIsPlayedAsFarAsTheJournalHasIt(t *testing.T) {
	for _, tt := range []struct {
		first, last uint64
		journal     func(m *projectortest.Memory)
		want        []uint64
		lost        uint64
	}{
		{first: 5, last: 30, want: numbered(5, 30)},
		{first: 1, last: 1, want: numbered(1, 1)},
		{first: 40, last: 1000, want: numbered(40, 50)},
		{first: 51, last: 60},
		{first: 1, last: 25, journal: func(m *projectortest.Memory) { m.Trim(20) }, want: numbered(20, 25), lost: 19},
		{first: 3, last: 25, journal: func(m *projectortest.Memory) { m.Trim(20) }, want: numbered(20, 25), lost: 17},
		{first: 1, last: 19, journal: func(m *projectortest.Memory) { m.Trim(20) }, lost: 19},
		{first: 11, last: 25, journal: func(m *projectortest.Memory) { m.Lose(15, 30) }, want: numbered(11, 14), lost: 11},
		{first: 11, last: 50, journal: func(m *projectortest.Memory) { m.Lose(45, 50) }, want: numbered(11, 44), lost: 6},
	} {
		t.Run(fmt.Sprintf("%d-%d-%d", tt.first, tt.last, tt.lost), func(t *testing.T) {
			m := projectortest.NewMemory()
			events(m, 50)
			if tt.journal != nil {
				tt.journal(m)
			}
			sink := &notes{}
			p := &player{journal: m, sink: sink}
			account := projector.NewAccount(projector.AccountOptions{Projection: "p"})
			done, err := p.play(t.Context(), Chunk{Span: journal.Span{First: tt.first, Last: tt.last}}, account)
			if err != nil || !slices.Equal(sink.seqs, tt.want) || done.Points != uint64(len(tt.want)) {
				t.Errorf("applied %v, %+v, %v, want %v", sink.seqs, done, err, tt.want)
			}
			if l := account.Losses(); l.Lost != tt.lost || len(l.Gaps) > 1 || m.OpenReaders() != 0 {
				t.Errorf("%+v, want %d lost; %d readers are open", l, tt.lost, m.OpenReaders())
			}
		})
	}
}

// When a journal loses its last records, the chunk ends there, because the numbers after that point
// belong to other records now.
func TestAChunkOfAJournalThatLosesItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		events(m, 5000)
		sink := &notes{}
		sink.apply = func(records []journal.Record) error {
			if records[0].Seq == 2001 {
				synctest.Wait() // the next batch is read ahead
				m.Cut(2500)
			}
			return nil
		}
		account := projector.NewAccount(projector.AccountOptions{Projection: "p"})
		p := &player{journal: m, sink: sink}
		_, err := p.play(t.Context(), Chunk{Span: journal.Span{First: 1, Last: 5000}}, account)
		if err != nil || !slices.Equal(sink.seqs, numbered(1, 4000)) || account.Losses().Lost != 0 {
			t.Errorf("applied %d records, %v, %+v", len(sink.seqs), err, account.Losses())
		}
	})
}

// A chunk that failed goes on after its last applied batch. If another chunk was played in between,
// it begins again.
func TestAChunkGoesOnWhereItFailed(t *testing.T) {
	m := projectortest.NewMemory()
	events(m, 2500)
	sink := &notes{}
	down := errors.New("down")
	fails := func(records []journal.Record) error {
		if records[0].Seq > 1000 {
			return down
		}
		return nil
	}
	p := &player{journal: m, sink: sink}
	chunk, other := Chunk{Span: journal.Span{First: 1, Last: 2500}}, Chunk{Span: journal.Span{First: 1, Last: 10}}
	sink.apply = fails
	if _, err := p.play(t.Context(), chunk, nil); !errors.Is(err, down) {
		t.Fatal(err)
	}
	sink.apply = nil
	if done, err := p.play(t.Context(), chunk, nil); err != nil || done.Points != 2500 || !slices.Equal(sink.seqs, numbered(1, 2500)) || sink.begun != 1 {
		t.Errorf("%+v, %v, begun %d times", done, err, sink.begun)
	}
	sink.apply, sink.seqs = fails, nil
	if _, err := p.play(t.Context(), chunk, nil); !errors.Is(err, down) {
		t.Fatal(err)
	}
	sink.apply = nil
	for _, c := range []Chunk{other, chunk} {
		if done, err := p.play(t.Context(), c, nil); err != nil || done.Points != c.Records() {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if !slices.Equal(sink.seqs, slices.Concat(numbered(1, 1000), numbered(1, 10), numbered(1, 2500))) || m.OpenReaders() != 0 {
		t.Errorf("applied %d records", len(sink.seqs))
	}
}
