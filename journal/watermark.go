package journal

import "sync"

// watermark is how far the journal is durable. Readers wait at it, so that nobody ever sees an event
// that a power loss could take back and whose number another event would get.
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

// runs holds the current run of the embedded server, nil while there is none.
type runs struct {
	mu      sync.Mutex
	run     *embedded
	changed chan struct{}
}

func newRuns() *runs { return &runs{changed: make(chan struct{})} }

func (r *runs) set(run *embedded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run = run
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *runs) current() *embedded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run
}

func (r *runs) get() (*embedded, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run, r.changed
}
