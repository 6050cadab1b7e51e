package journal

import (
	"math"
	"sync"
)

// runs holds the current run of the embedded server, nil while there is none.
type runs struct {
	mu      sync.Mutex
	run     *embedded
	changed chan struct{}
	rewinds []uint64 // the ends that the journal was set back to when a run lost events; only ever appended to
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

// rewind notes that the next run ends with last, before what readers may have seen. Its numbers
// from there on will be other events'; a reader that looks only at where the journal ends would
// pass those over.
func (r *runs) rewind(last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rewinds = append(r.rewinds, last)
}

// lowestEnd is the lowest end that the journal was set back to, not counting the first rewinds that
// are known; math.MaxUint64 if there was none.
func (r *runs) lowestEnd(known int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	lowest := uint64(math.MaxUint64)
	for _, end := range r.rewinds[known:] {
		lowest = min(lowest, end)
	}
	return lowest
}

// get returns the run, a channel that is closed when it changes, and the rewinds before it, not to
// be changed.
func (r *runs) get() (run *embedded, changed <-chan struct{}, rewinds []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run, r.changed, r.rewinds
}
