package live

import (
	"sort"
	"unsafe"
)

// entry is one record of the journal with readings, encoded; or, with from, a row of records that the journal has lost. It
// is never changed once it is in the ring, and may be read without the lock.
type entry struct {
	seq  uint64
	from uint64 // records from to seq are missing; 0: none, this is an event
	data []byte // the whole message
	head int32  // where its first reading begins
	refs []ref  // its readings
}

// ref is one reading of a message: its series, and where its text ends. The next begins a comma later.
type ref struct {
	of  *spelled
	end int32
}

func (e *entry) size() int {
	return int(unsafe.Sizeof(entry{})) + len(e.data) + len(e.refs)*int(unsafe.Sizeof(ref{}))
}

// ring holds the newest entries. They are numbered in their order, from 0, so that a stream knows where it is.
type ring struct {
	maxRecords, maxBytes int

	slots       []entry
	first, next uint64 // number of the oldest, and of the one to come
	bytes       int
	base        uint64 // the last record that is not in the ring any more
}

func (r *ring) len() int { return int(r.next - r.first) }

func (r *ring) at(n uint64) *entry { return &r.slots[n%uint64(len(r.slots))] }

// reset empties the ring. The numbers go on, so that a stream from before finds itself out of it.
func (r *ring) reset(base uint64) {
	r.slots, r.bytes, r.base = nil, 0, base
	r.next++
	r.first = r.next
}

// push appends entries and drops the oldest that are too many.
func (r *ring) push(entries []entry) {
	for i := range entries {
		size := entries[i].size()
		for r.len() > 0 && (r.len() >= r.maxRecords || r.bytes+size > r.maxBytes) {
			r.drop()
		}
		if r.len() == len(r.slots) {
			r.grow()
		}
		*r.at(r.next) = entries[i]
		r.next++
		r.bytes += size
	}
}

func (r *ring) drop() {
	e := r.at(r.first)
	r.base = e.seq
	r.bytes -= e.size()
	*e = entry{}
	r.first++
}

func (r *ring) grow() {
	slots := make([]entry, min(max(64, 2*len(r.slots)), r.maxRecords))
	for n := r.first; n < r.next; n++ {
		slots[n%uint64(len(slots))] = *r.at(n)
	}
	r.slots = slots
}

// safe says whether all behind a record is in the ring, and does not leave it soon. last is the journal's newest record.
func (r *ring) safe(seq, last uint64) bool {
	if r.len() < r.maxRecords/4*3 && r.bytes < r.maxBytes/4*3 {
		return seq >= r.base
	}
	return seq >= r.base+(last-r.base)/4
}

// find is the number of the first entry behind a record.
func (r *ring) find(seq uint64) uint64 {
	return r.first + uint64(sort.Search(r.len(), func(i int) bool { return r.at(r.first+uint64(i)).seq > seq }))
}

// take copies the entries from number n on and counts them. It is false if some of them were dropped.
func (r *ring) take(n uint64, dst []entry) (int, bool) {
	if n < r.first {
		return 0, false
	}
	count := 0
	for ; count < len(dst) && n < r.next; n++ {
		dst[count] = *r.at(n)
		count++
	}
	return count, true
}
