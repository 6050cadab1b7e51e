package projectortest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// Recorder is a projection that records its calls. Its function fields change its behaviour; set
// them before the runner starts. Its methods may be called from any goroutine.
type Recorder struct {
	// ID is the name of the projection.
	ID string
	// OnApply is called before Apply records anything. Its error is the result of Apply.
	OnApply func(records []journal.Record) error
	// OnTick and OnFlush return the results of Tick and Flush; nil means 0 and no error.
	OnTick  func(now time.Time) (uint64, error)
	OnFlush func() (uint64, error)
	// Position returns the position that Apply returns; nil means the last record.
	Position func(last uint64) uint64

	mu      sync.Mutex // guards what follows
	seqs    []uint64
	batches []int
	origins []projector.Origin
}

// Name is ID.
func (r *Recorder) Name() string { return r.ID }

// Begin records where the runner begins.
func (r *Recorder) Begin(_ context.Context, o projector.Origin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.origins = append(r.origins, o)
	return nil
}

// Apply records the records' sequence numbers.
func (r *Recorder) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	if r.OnApply != nil {
		if err := r.OnApply(records); err != nil {
			return 0, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, len(records))
	for i := range records {
		r.seqs = append(r.seqs, records[i].Seq)
	}
	last := records[len(records)-1].Seq
	if r.Position != nil {
		return r.Position(last), nil
	}
	return last, nil
}

// Tick calls OnTick.
func (r *Recorder) Tick(_ context.Context, now time.Time) (uint64, error) {
	if r.OnTick != nil {
		return r.OnTick(now)
	}
	return 0, nil
}

// Flush calls OnFlush.
func (r *Recorder) Flush(context.Context, time.Time) (uint64, error) {
	if r.OnFlush != nil {
		return r.OnFlush()
	}
	return 0, nil
}

// Applied returns the sequence numbers of all records that were applied, in order.
func (r *Recorder) Applied() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seqs)
}

// Batches returns how many records each batch had.
func (r *Recorder) Batches() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.batches)
}

// Origins returns where the runner began, each time that it did.
func (r *Recorder) Origins() []projector.Origin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.origins)
}
