package stream

import (
	"slices"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/jsontext"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// maxMessage bounds a message. The tags of a collector stand beside each of its readings, so
	// that a small event can be a large text. A relay with as many series as it may have needs a
	// tenth of it.
	maxMessage = 4 << 20
	// maxSeries bounds the series that an encoder remembers, for names that never repeat.
	maxSeries = 1 << 19
	// Messages are kept in pieces of memory of this size.
	arenaBytes = 64 << 10
	arenaRefs  = 4 << 10
)

// spelled is a series as messages show it. It is never changed.
type spelled struct {
	stat string
	tags []lookup.Tag
	head string // {"stat":"cpu_used","value":
	tail string // ,"tags":{"host":"web1"}}
}

type (
	series  = lookup.Series[struct{}, *spelled]
	reading = lookup.Reading[struct{}, *spelled]
)

func spell(s *series) *spelled {
	head := jsontext.AppendString([]byte(`{"stat":`), s.Stat)
	sp := &spelled{stat: s.Stat, tags: s.Set.Tags, head: string(append(head, `,"value":`...))}
	for _, other := range s.Set.Series {
		if other.Data != nil {
			sp.tail = other.Data.tail // one text for all
			return sp
		}
	}
	sp.tail = string(append(jsontext.AppendTags([]byte(`,"tags":`), s.Set.Tags), '}'))
	return sp
}

// encoder makes messages of events. Every series is spelled once, so that a reading costs two
// copies and the number. It belongs to one goroutine.
type encoder struct {
	metrics  *metrics
	cache    lookup.Cache[struct{}, *spelled]
	readings []reading
	buf      []byte
	refs     []ref

	messages arena[byte]
	keptRefs arena[ref]
}

func newEncoder(m *metrics) *encoder {
	return &encoder{metrics: m, messages: arena[byte]{size: arenaBytes}, keptRefs: arena[ref]{size: arenaRefs}}
}

// encode makes the message of an event with all of its readings. It reports false if the event has
// none. The entry is valid until the next encode.
func (c *encoder) encode(seq uint64, e *codec.Event) (entry, bool) {
	c.refs = c.refs[:0]
	c.buf = appendHead(c.buf[:0], seq, e)
	head, left := len(c.buf), 0
	for _, r := range c.resolve(e) {
		if len(c.buf)+len(r.Series.Data.tail) > maxMessage {
			left++
			continue
		}
		c.buf = appendReading(c.buf, len(c.refs) == 0, r)
		c.refs = append(c.refs, ref{r.Series.Data, int32(len(c.buf))})
	}
	if left > 0 {
		c.metrics.leftOut.Add(float64(left))
	}
	c.buf = appendTail(c.buf, left)
	return entry{seq: seq, head: int32(head), data: c.buf, refs: c.refs}, len(c.refs) > 0
}

// resolve finds the readings of an event with their spelling.
func (c *encoder) resolve(e *codec.Event) []reading {
	if c.cache.Len() > maxSeries {
		c.cache = lookup.Cache[struct{}, *spelled]{}
	}
	c.readings = c.cache.Relay(e.Key()).Resolve(e, c.readings[:0])
	for i := range c.readings {
		if s := c.readings[i].Series; s.Data == nil {
			s.Data = spell(s)
		}
	}
	return c.readings
}

// keep copies an entry into memory that is never written again.
func (c *encoder) keep(e entry) entry {
	e.data, e.refs = c.messages.keep(e.data), c.keptRefs.keep(e.refs)
	return e
}

// arena copies slices into pieces of memory of a size.
type arena[T any] struct {
	size int
	room []T
}

func (a *arena[T]) keep(list []T) []T {
	if len(list) > a.size/4 {
		return slices.Clone(list)
	}
	if len(list) > cap(a.room)-len(a.room) {
		a.room = make([]T, 0, a.size)
	}
	at := len(a.room)
	a.room = append(a.room, list...)
	return a.room[at:len(a.room):len(a.room)]
}
