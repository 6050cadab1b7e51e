package projector

import (
	"context"
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
)

// aheadPatience is how long a batch is waited for that is read ahead: its records are there
// already.
const aheadPatience = 100 * time.Millisecond

// intake reads the journal in batches, for one goroutine. It can read the next batch while the one
// before is applied: whoever has much to catch up with would wait for both otherwise.
type intake struct {
	source Source
	most   int // records of a batch
	reader Reader
	next   chan intakeBatch // the batch that is read ahead; nil if none is
}

type intakeBatch struct {
	records []journal.Record
	err     error
}

// open opens a reader at seq, unless one is open.
func (in *intake) open(seq uint64) (err error) {
	if in.reader == nil {
		in.reader, err = in.source.ReadFrom(seq)
	}
	return err
}

// close closes the reader, if one is open.
func (in *intake) close() error {
	if in.reader == nil {
		return nil
	}
	err := in.reader.Close()
	if in.next != nil {
		<-in.next
	}
	in.next, in.reader = nil, nil
	return err
}

// read returns what was read ahead, or reads.
func (in *intake) read(ctx context.Context) ([]journal.Record, error) {
	if in.next != nil {
		b := <-in.next
		in.next = nil
		if !errors.Is(b.err, context.DeadlineExceeded) && !errors.Is(b.err, context.Canceled) {
			return b.records, b.err
		}
	}
	return in.reader.Read(ctx, in.most)
}

// readAhead begins to read the next batch.
func (in *intake) readAhead(ctx context.Context) {
	next, reader := make(chan intakeBatch, 1), in.reader
	in.next = next
	go func() {
		ctx, cancel := context.WithTimeout(ctx, aheadPatience)
		defer cancel()
		records, err := reader.Read(ctx, in.most)
		next <- intakeBatch{records, err}
	}()
}
