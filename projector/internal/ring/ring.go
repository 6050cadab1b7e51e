// Package ring provides a queue in a slice whose memory is used again.
package ring

// Ring is a queue of up to Max elements. Its elements are numbered in their order, and numbers are
// never used again: a number can show later whether its element is still in the ring.
//
// A Ring belongs to one goroutine, or is used under its owner's lock.
type Ring[T any] struct {
	// Max is the largest number of elements. When the ring is full, the owner drops an element
	// before it pushes another.
	Max int

	slots       []T    // their number is a power of two
	first, next uint64 // numbers of the oldest element, and of the next one
}

// Len counts the elements.
func (r *Ring[T]) Len() int { return int(r.next - r.first) }

// Full reports whether there are Max elements.
func (r *Ring[T]) Full() bool { return r.Len() >= r.Max }

// First returns the number of the oldest element.
func (r *Ring[T]) First() uint64 { return r.first }

// Next returns the number that the next pushed element gets.
func (r *Ring[T]) Next() uint64 { return r.next }

// At returns the element with the number n, which must be in the ring. The pointer is valid until
// the ring is changed.
func (r *Ring[T]) At(n uint64) *T { return &r.slots[n&uint64(len(r.slots)-1)] }

// Push appends v. The ring must not be full.
func (r *Ring[T]) Push(v T) {
	r.grow()
	r.next++
	*r.At(r.next - 1) = v
}

// Drop removes the oldest element and clears its slot, so that its memory can be freed.
func (r *Ring[T]) Drop() {
	var zero T
	*r.At(r.first) = zero
	r.first++
}

// PutBack puts v before all elements. It undoes a Drop: there must not be more PutBacks than Drops,
// and the ring must not be full.
func (r *Ring[T]) PutBack(v T) {
	r.grow()
	r.first--
	*r.At(r.first) = v
}

// Reset removes all elements and frees their memory. Their numbers are not used again, nor is the
// number of the element that would have come next.
func (r *Ring[T]) Reset() {
	r.slots = nil
	r.next++
	r.first = r.next
}

// grow makes room for one more element.
func (r *Ring[T]) grow() {
	const least = 64
	if r.Len() < len(r.slots) {
		return
	}
	slots := make([]T, max(least, 2*len(r.slots)))
	for n := r.first; n < r.next; n++ {
		slots[n&uint64(len(slots)-1)] = *r.At(n)
	}
	r.slots = slots
}
