// Package projectortest holds a journal in memory for the tests of projections. It keeps the real
// reader's promises and no more: records are valid until the next Read, gaps come as errors, and it
// can be made to lose its beginning, its end or what is in between.
package projectortest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
)

// Memory is a journal in memory. It may be used from any goroutine; in a synctest bubble it must be
// made there.
type Memory struct {
	mu      sync.Mutex
	records []journal.Record // in order of Seq, holes allowed
	first   uint64
	last    uint64
	changed chan struct{} // closed when something changes
	fail    error
	readers int
	reads   int
	most    int64         // records that State tells as MaxBytes; 0: no limit
	age     time.Duration // State's Retention
}

// NewMemory returns an empty journal.
func NewMemory() *Memory { return &Memory{first: 1, changed: make(chan struct{})} }

// Append appends events and returns the sequence number of the last. The events appear together: a
// Read that waits sees all of them, so a test decides with one call how a batch falls.
func (m *Memory) Append(events ...*codec.Event) uint64 {
	records := make([]journal.Record, len(events))
	for i, e := range events {
		records[i].Event = copyEvent(new(codec.Event), e)
	}
	return m.append(records...)
}

// AppendBad appends a record that cannot be decoded.
func (m *Memory) AppendBad(err error) uint64 { return m.append(journal.Record{Err: err}) }

// AppendRelay appends a relay event.
func (m *Memory) AppendRelay(e codec.RelayEvent) uint64 {
	return m.append(journal.Record{Relay: &e})
}

func (m *Memory) append(records ...journal.Record) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		m.last++
		r.Seq = m.last
		m.records = append(m.records, r)
	}
	m.wake()
	return m.last
}

func (m *Memory) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Limit has State tell that the journal holds at most so many records, each of a byte, and none that
// is older than age; 0 is no limit. It drops nothing: Trim does.
func (m *Memory) Limit(records int, age time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most, m.age = int64(records), age
}

// Last is the sequence number of the last record.
func (m *Memory) Last() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// Trim drops the records before seq, as retention does.
func (m *Memory) Trim(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first = max(m.first, seq)
	m.records = slices.DeleteFunc(m.records, func(r journal.Record) bool { return r.Seq < seq })
}

// Cut drops the records behind seq: the journal lost its end.
func (m *Memory) Cut(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = min(m.last, seq)
	m.records = slices.DeleteFunc(m.records, func(r journal.Record) bool { return r.Seq > seq })
	m.wake()
}

// Lose drops the records from to to, as damage in the middle does.
func (m *Memory) Lose(from, to uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = slices.DeleteFunc(m.records, func(r journal.Record) bool { return r.Seq >= from && r.Seq <= to })
}

// Fail makes every call fail with err until it is called with nil.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
	m.wake()
}

// OpenReaders counts the readers that are not closed.
func (m *Memory) OpenReaders() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readers
}

// Reads counts the Reads that returned records.
func (m *Memory) Reads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// Events visits the events that are there, in order.
func (m *Memory) Events(visit func(seq uint64, e *codec.Event)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if r.Event != nil {
			visit(r.Seq, r.Event)
		}
	}
}

// State implements projector.Source.
func (m *Memory) State(ctx context.Context) (journal.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.fail); err != nil {
		return journal.State{}, err
	}
	return journal.State{FirstSeq: m.first, LastSeq: m.last, Messages: uint64(len(m.records)), Bytes: uint64(len(m.records)),
		MaxBytes: m.most, Retention: m.age, Appended: int64(m.last)}, nil
}

// ReadFrom implements projector.Source.
func (m *Memory) ReadFrom(seq uint64) (projector.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	m.readers++
	return &memoryReader{m: m, next: seq}, nil
}

// ReadFromTime implements projector.Source, taking an event's Time for the time it was stored.
func (m *Memory) ReadFromTime(t time.Time) (projector.Reader, error) {
	m.mu.Lock()
	seq := m.last + 1
	for _, r := range m.records {
		if r.Event != nil && r.Event.Time >= t.UnixNano() {
			seq = r.Seq
			break
		}
	}
	m.mu.Unlock()
	return m.ReadFrom(seq)
}

// Range implements projector.Source.
func (m *Memory) Range(ctx context.Context, s journal.Span, visit func([]journal.Record, *journal.GapError) error) error {
	s = journal.Span{First: max(s.First, 1), Last: min(s.Last, m.Last())}
	reader, err := m.ReadFrom(s.First)
	if err != nil {
		return err
	}
	r := reader.(*memoryReader)
	defer r.Close()
	for next := s.First; next <= s.Last; {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.poison()
		records, wait, err := r.take(int(min(s.Last-next+1, rangeBatch)))
		gap, isGap := errors.AsType[*journal.GapError](err)
		switch {
		case isGap && gap.Reason != journal.GapRewound:
			gap = &journal.GapError{From: next, To: min(gap.To, s.Last), Reason: gap.Reason}
		case isGap || wait != nil:
			gap = &journal.GapError{From: next, To: s.Last, Reason: journal.GapLost}
			if last := m.Last(); last < next {
				gap.Reason = journal.GapRewound
			} else {
				gap.To = min(gap.To, last)
			}
		case err != nil:
			return err
		default:
			gap, next = nil, records[len(records)-1].Seq+1
		}
		if gap != nil {
			next = gap.To + 1
		}
		if err := visit(records, gap); err != nil {
			return err
		}
	}
	return nil
}

// rangeBatch is how many records a visit of Range gets at most.
const rangeBatch = 1000

type memoryReader struct {
	m       *Memory
	next    uint64
	closed  bool
	records []journal.Record
	events  []codec.Event
	before  []journal.Record // what the Read before the last returned
}

func (r *memoryReader) Read(ctx context.Context, most int) ([]journal.Record, error) {
	r.poison()
	if err := ctx.Err(); err != nil {
		return nil, err // as the journal's reader does, also when records are there
	}
	for {
		records, wait, err := r.take(most)
		if wait == nil {
			return records, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// poison spoils what the Read before the last returned, so that a projection that kept it is found
// out.
func (r *memoryReader) poison() {
	for i := range r.before {
		if e := r.before[i].Event; e != nil {
			for c := range e.Collectors {
				col := &e.Collectors[c]
				for s := range col.Stats {
					col.Stats[s] = codec.Stat{ID: "poison", Value: -1e300}
				}
				for t := range col.Tags {
					col.Tags[t] = "poison:poison"
				}
				col.Name = "poison"
			}
			e.Relay, e.Time = "poison", -1
		}
		r.before[i] = journal.Record{}
	}
	r.before, r.records, r.events = r.records, nil, nil
}

// take returns what there is, or the channel to wait for.
func (r *memoryReader) take(most int) ([]journal.Record, <-chan struct{}, error) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	m := r.m
	if m.fail != nil {
		return nil, nil, m.fail
	}
	if r.closed {
		return nil, nil, journal.ErrClosed
	}
	if r.next == 0 {
		r.next = m.first
	}
	if r.next > m.last+1 {
		gap := &journal.GapError{From: m.last + 1, To: r.next - 1, Reason: journal.GapRewound}
		r.next = m.last + 1
		return nil, nil, gap
	}
	i, _ := slices.BinarySearchFunc(m.records, r.next, func(rec journal.Record, seq uint64) int { return int(rec.Seq) - int(seq) })
	if i == len(m.records) && r.next < m.first {
		gap := &journal.GapError{From: r.next, To: m.first - 1, Reason: journal.GapRetention}
		r.next = m.first
		return nil, nil, gap
	}
	if i == len(m.records) {
		return nil, m.changed, nil
	}
	if found := m.records[i].Seq; found > r.next {
		gap := &journal.GapError{From: r.next, To: found - 1, Reason: journal.GapLost}
		if m.first >= found {
			gap.Reason = journal.GapRetention
		}
		r.next = found
		return nil, nil, gap
	}
	if len(r.events) < most {
		r.events = make([]codec.Event, most)
	}
	r.records = r.records[:0]
	for ; i < len(m.records) && len(r.records) < most && m.records[i].Seq == r.next; i++ {
		rec := m.records[i]
		if rec.Event != nil {
			rec.Event = copyEvent(&r.events[len(r.records)], rec.Event)
		}
		r.records = append(r.records, rec)
		r.next++
	}
	m.reads++
	return r.records, nil, nil
}

func (r *memoryReader) Pending() uint64 {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	n := uint64(0)
	for i := len(r.m.records) - 1; i >= 0 && r.m.records[i].Seq >= r.next; i-- {
		n++
	}
	return n
}

func (r *memoryReader) Close() error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.m.readers--
	}
	return nil
}

// copyEvent copies e into dst, using dst's memory again.
func copyEvent(dst, e *codec.Event) *codec.Event {
	collectors := slices.Grow(dst.Collectors[:0], len(e.Collectors))[:len(e.Collectors)]
	*dst = *e
	dst.Collectors = collectors
	for i, c := range e.Collectors {
		d := &dst.Collectors[i]
		d.Name = c.Name
		d.Tags = append(d.Tags[:0], c.Tags...)
		d.Stats = append(d.Stats[:0], c.Stats...)
	}
	return dst
}
