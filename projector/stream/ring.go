package stream

import (
	"sort"
	"unsafe"

	"github.com/nanopack/pulse/projector/internal/ring"
)

// entry is one record of the journal with readings, encoded; or, with from, a range of records that
// the journal has lost. It is not changed after it is in the ring, and may be read without the
// lock.
type entry struct {
	seq  uint64
	from uint64 // records from to seq are missing; 0: none, this is an event
	data []byte // the whole message
	head int32  // where its first reading begins
	refs []ref  // its readings
}

// ref is one reading of a message: its series, and where its text ends. The next text begins a
// comma later.
type ref struct {
	of  *spelled
	end int32
}

func (e *entry) size() int {
	return int(unsafe.Sizeof(entry{})) + len(e.data) + len(e.refs)*int(unsafe.Sizeof(ref{}))
}

// entries holds the newest entries. A subscription keeps the number of the entry that it reads
// next.
type entries struct {
	ring.Ring[entry]
	maxBytes, bytes int
	base            uint64 // the last record that is not in the ring any more
}

func newEntries(maxRecords, maxBytes int) entries {
	return entries{Ring: ring.Ring[entry]{Max: maxRecords}, maxBytes: maxBytes}
}

// reset empties the ring.
func (r *entries) reset(base uint64) {
	r.Reset()
	r.bytes, r.base = 0, base
}

// push appends entries and drops the oldest that are too many.
func (r *entries) push(list []entry) {
	for i := range list {
		size := list[i].size()
		for r.Len() > 0 && (r.Full() || r.bytes+size > r.maxBytes) {
			oldest := r.At(r.First())
			r.base = oldest.seq
			r.bytes -= oldest.size()
			r.Drop()
		}
		r.Push(list[i])
		r.bytes += size
	}
}

// safe reports whether every event after seq is still in the ring and will stay there until it is
// read. last is the journal's newest record.
func (r *entries) safe(seq, last uint64) bool {
	if r.Len() < r.Max/4*3 && r.bytes < r.maxBytes/4*3 {
		return seq >= r.base
	}
	return seq >= r.base+(last-r.base)/4
}

// find returns the number of the first entry after a record.
func (r *entries) find(seq uint64) uint64 {
	first := r.First()
	return first + uint64(sort.Search(r.Len(), func(i int) bool { return r.At(first+uint64(i)).seq > seq }))
}

// take copies the entries from number n on and counts them. It reports false if some of them were
// dropped.
func (r *entries) take(n uint64, dst []entry) (int, bool) {
	if n < r.First() {
		return 0, false
	}
	count := 0
	for ; count < len(dst) && n < r.Next(); n++ {
		dst[count] = *r.At(n)
		count++
	}
	return count, true
}
