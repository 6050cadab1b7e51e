package journal

import "sync"

// watermark is how far the journal is durable. Readers wait at it, so that nobody ever sees an
// event that a power loss could take back and whose number another event would get.
type watermark struct {
	mu   sync.Mutex
	seq  uint64
	time int64 // of the event, 0 if not known
	next chan struct{}
}

func newWatermark() *watermark { return &watermark{next: make(chan struct{})} }

// advance moves the mark and wakes whoever waits.
func (w *watermark) advance(seq uint64, time int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq, w.time = seq, time
	close(w.next)
	w.next = make(chan struct{})
}

// get returns the mark, and a channel that is closed when it moves.
func (w *watermark) get() (seq uint64, time int64, moved <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq, w.time, w.next
}
