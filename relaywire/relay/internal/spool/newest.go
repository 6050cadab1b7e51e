package spool

import (
	"bytes"
	"slices"
)

// Newest returns the newest waiting records in ascending order and makes them be on their way: an
// unbroken range of at most n, and at most what one segment holds. Nil means that nothing waits
// that can be read.
func (l *Log) Newest(n int) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || n <= 0 {
		return nil
	}
	for _, s := range slices.Backward(slices.Clone(l.segments)) { // read may change them
		for l.waiting(s) > 0 {
			if records := l.read(s, l.newestRange(s, n)); records != nil {
				l.out.add(Range{records[0].Seq, records[len(records)-1].Seq})
				return records
			}
		}
	}
	return nil
}

// newestRange returns the newest waiting records of s, of which there is at least one.
func (l *Log) newestRange(s *segment, n int) (r Range) {
	for r.Last = s.last; ; {
		if g, ok := l.gone.at(r.Last); ok && g.Last >= r.Last {
			r.Last = g.First - 1
		} else if g, ok := l.out.at(r.Last); ok && g.Last >= r.Last {
			r.Last = g.First - 1
		} else {
			break
		}
	}
	r.First = s.first
	for _, other := range []ranges{l.gone, l.out} {
		if g, ok := other.at(r.Last); ok {
			r.First = max(r.First, g.Last+1)
		}
	}
	if r.Len() > n {
		r.First = r.Last - uint64(n) + 1
	}
	return r
}

// read returns the newest records of want without a gap. What cannot be read is gone and counted;
// if the whole segment cannot be read, it is set aside.
func (l *Log) read(s *segment, want Range) (records []Record) {
	_, err := s.scan(func(n line) {
		if r := n.record(); n.word == wordRecord && want.First <= r.Seq && r.Seq <= want.Last {
			r.Items = bytes.Clone(r.Items)
			records = append(records, r)
		}
	})
	if err != nil {
		l.failed(err)
		s.unreadable = true
		return nil
	}
	next := want.First
	from := 0 // of the records after the last gap
	missing := func(r Range) {
		l.state.Damaged += uint64(r.Len())
		l.forget(r)
	}
	for i, r := range records {
		if r.Seq != next {
			missing(Range{next, r.Seq - 1})
			from = i
		}
		next = r.Seq + 1
	}
	if next <= want.Last {
		missing(Range{next, want.Last})
		return nil // the next attempt finds what is before it
	}
	return slices.Clip(records[from:])
}
