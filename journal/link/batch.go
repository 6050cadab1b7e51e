package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

const (
	// batchEvents and batchBytes bound a batch; one event may be larger.
	batchEvents = 1000
	batchBytes  = 256 << 10
	// maxBatch bounds what a batch may be when it is read.
	maxBatch = journal.MaxEventBytes + batchBytes + 64
)

// A batch is, compressed: the number of its first event, the edge's clock, and for each event its kind
// ('e' or 'r'), its length and its JSON, as the edge has it stored. Numbers are varints.
type batch struct {
	first uint64
	count int
	plain []byte // after the head
	head  []byte
	out   []byte
}

// add adds a record that has an event or a relay event. One that was not read from a journal is encoded.
func (b *batch) add(rec *journal.Record) error {
	if b.count == 0 {
		b.first, b.plain = rec.Seq, b.plain[:0]
	}
	kind, data, err := byte('e'), rec.Data, error(nil)
	switch {
	case rec.Event == nil:
		kind = 'r'
		if data == nil {
			data = codec.EncodeRelayEvent(nil, rec.Relay)
		}
	case data == nil:
		if data, err = codec.EncodeEvent(nil, rec.Event); err != nil {
			return err
		}
	}
	b.plain = append(b.plain, kind)
	b.plain = binary.AppendUvarint(b.plain, uint64(len(data)))
	b.plain = append(b.plain, data...)
	b.count++
	return nil
}

func (b *batch) full() bool { return b.count >= batchEvents || len(b.plain) >= batchBytes }

// take returns the payload, valid until the next call, and empties the batch.
func (b *batch) take(now int64) []byte {
	b.head = binary.AppendUvarint(b.head[:0], b.first)
	b.head = binary.AppendVarint(b.head, now)
	b.head = binary.AppendUvarint(b.head, uint64(b.count))
	n := len(b.head)
	b.head = append(b.head, b.plain...)
	b.out = s2.Encode(b.out[:cap(b.out)], b.head)
	b.head, b.count = b.head[:n], 0
	return b.out
}

// batchReader reads batches into memory that it uses again.
type batchReader struct {
	plain   []byte
	dec     codec.Decoder
	events  []codec.Event
	relays  []codec.RelayEvent
	records []journal.Record
}

var errBatch = errors.New("a batch that cannot be read")

// read returns the records of a batch, valid until the next call, and the edge's clock.
func (r *batchReader) read(payload []byte) (records []journal.Record, now int64, err error) {
	if n, err := s2.DecodedLen(payload); err != nil || n > maxBatch {
		return nil, 0, errBatch
	}
	if r.plain, err = s2.Decode(r.plain[:cap(r.plain)], payload); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errBatch, err)
	}
	rest := r.plain
	uvarint := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			err, rest = errBatch, nil
			return 0
		}
		rest = rest[n:]
		return v
	}
	first := uvarint()
	now, n := binary.Varint(rest)
	if n <= 0 {
		return nil, 0, errBatch
	}
	rest = rest[n:]
	count := uvarint()
	if err != nil || count > batchEvents || first == 0 || first+count < first {
		return nil, 0, errBatch
	}
	r.room(int(count))
	r.records = r.records[:0]
	for i := range count {
		if len(rest) == 0 {
			return nil, 0, errBatch
		}
		kind := rest[0]
		rest = rest[1:]
		size := uvarint()
		if err != nil || size > uint64(len(rest)) {
			return nil, 0, errBatch
		}
		rec := journal.Record{Seq: first + i}
		switch kind {
		case 'e':
			rec.Event = &r.events[i]
			err = r.dec.DecodeEvent(rest[:size], rec.Event)
		case 'r':
			rec.Relay = &r.relays[i]
			err = r.dec.DecodeRelayEvent(rest[:size], rec.Relay)
		default:
			err = errBatch
		}
		if err != nil {
			return nil, 0, fmt.Errorf("event %d: %w", rec.Seq, err)
		}
		rest = rest[size:]
		r.records = append(r.records, rec)
	}
	if len(rest) > 0 {
		return nil, 0, errBatch
	}
	return r.records, now, nil
}

// room makes room for n events, in the memory of those before them.
func (r *batchReader) room(n int) {
	if len(r.events) < n {
		events, relays := make([]codec.Event, n), make([]codec.RelayEvent, n)
		copy(events, r.events)
		copy(relays, r.relays)
		r.events, r.relays = events, relays
	}
}
