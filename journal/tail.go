package journal

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// The tail is bounded in events, in bytes as they are stored (decoded events take about as much, at
// most four times that), and in age. A reader whose last read was longer ago than tailAge is not at
// the head, and is served by the server.
const (
	tailEvents = 8192
	tailBytes  = 8 << 20
	tailAge    = 2 * time.Second
	// packEvents is how many events share their memory: one that is kept keeps the others too.
	packEvents = 64
)

// tail is the last committed batches, for readers that are close to the head: they need no
// consumer, and an event is decoded once for all of them. It has durable events only, with
// consecutive numbers, and ends at the watermark, which guards it. What a start finds in the
// journal is not in it. It is empty from a write error or a start until the next commit.
type tail struct {
	batches       []*tailBatch // oldest first
	events, bytes int
	rewinds       int // how often the journal was set back before the newest batch

	maxEvents, maxBytes int
	maxAge              time.Duration
}

func (t *tail) clear() { t.batches, t.events, t.bytes = nil, 0, 0 }

func (t *tail) add(b *tailBatch, rewinds int) {
	t.batches, t.rewinds = append(t.batches, b), rewinds
	t.events += b.events
	t.bytes += b.bytes
	for len(t.batches) > 1 && (t.events > t.maxEvents || t.bytes > t.maxBytes || b.at.Sub(t.batches[0].at) > t.maxAge) {
		t.events -= t.batches[0].events
		t.bytes -= t.batches[0].bytes
		t.batches[0] = nil
		t.batches = t.batches[1:]
	}
}

// find returns the batch with the event seq, nil if there is none or if it is older than age:
// retention may have dropped it.
func (t *tail) find(seq uint64, age time.Duration) *tailBatch {
	i := sort.Search(len(t.batches), func(i int) bool { return t.batches[i].last() >= seq })
	if i == len(t.batches) || t.batches[i].first > seq || time.Since(t.batches[i].at) > age {
		return nil
	}
	return t.batches[i]
}

// tailBatch is a committed batch. Its events are decoded by the first reader that comes to them,
// because the committer must not do anything that can wait.
type tailBatch struct {
	first         uint64 // the number of its first event
	events, bytes int
	at            time.Time // when it was committed

	once     sync.Once
	messages []Message // until they are decoded
	records  []Record  // after that
}

func (b *tailBatch) last() uint64 { return b.first + uint64(b.events) - 1 }

// newTailBatch copies a batch of size bytes.
func newTailBatch(first uint64, batch []*request, size int) *tailBatch {
	b := &tailBatch{first: first, events: len(batch), bytes: size, at: time.Now(), messages: make([]Message, len(batch))}
	data := make([]byte, 0, size)
	for i, r := range batch {
		data = append(data, r.data...)
		b.messages[i] = Message{r.subject, data[len(data)-len(r.data):]}
	}
	return b
}

// tailDecoder decodes the batches of a tail.
type tailDecoder struct {
	mu      sync.Mutex
	dec     codec.Decoder
	scratch [packEvents]codec.Event
	of      [packEvents]int // which record each of them belongs to
}

// decoded returns the records of a batch. They are shared and must not be changed.
func (j *Journal) decoded(b *tailBatch) []Record {
	b.once.Do(func() {
		j.tail.mu.Lock()
		defer j.tail.mu.Unlock()
		b.records = j.tail.decode(b.first, b.messages)
		b.messages = nil // the records have the data
		for i := range b.records {
			if b.records[i].Err != nil {
				j.m.undecodable.Inc()
			}
		}
	})
	return b.records
}

func (d *tailDecoder) decode(first uint64, messages []Message) []Record {
	records := make([]Record, len(messages))
	n := 0
	pack := func() {
		packed := codec.Pack(d.scratch[:n])
		for i := range packed {
			records[d.of[i]].Event = &packed[i]
		}
		n = 0
	}
	for i, m := range messages {
		records[i] = decode(&d.dec, first+uint64(i), m.Subject, m.Data, &d.scratch[n])
		if records[i].Event == nil {
			continue
		}
		d.of[n] = i
		if n++; n == packEvents {
			pack()
		}
	}
	pack()
	return records
}

// recent takes what comes next from the tail. At the head it waits for the next commit, unless the
// reader has records to return. It returns false without an error if the reader needs the server.
func (r *Reader) recent(ctx context.Context, max int) (bool, error) {
	if r.ctx.Err() != nil {
		return false, r.ended()
	}
	if len(r.records) == 0 && ctx.Err() != nil {
		return false, ctx.Err()
	}
	if r.apart {
		return false, nil
	}
	place := r.j.durable.place(r.next, r.rewinds, r.pull != nil)
	switch {
	case place.batch != nil:
		r.leave()
		records := r.j.decoded(place.batch)[r.next-place.batch.first:]
		records = records[:min(len(records), max-len(r.records))]
		r.records = append(r.records, records...)
		r.next += uint64(len(records))
		r.j.m.readTail.Add(float64(len(records)))
		return true, nil
	case !place.head:
		return false, nil
	case len(r.records) > 0:
		return false, errNotNow
	}
	r.leave()
	select {
	case <-place.moved:
	case <-ctx.Done():
	case <-r.ctx.Done():
	}
	return true, nil
}

// leave gives up the consumer, if there is one: the reader has reached the tail. Unlike one that is
// lost it is deleted, because the server tells it of each event until then.
func (r *Reader) leave() {
	if r.pull != nil {
		r.pull.delete()
	}
	r.drop()
	r.events, r.other.events, r.dec = nil, nil, codec.Decoder{} // only records of the server need them
}
