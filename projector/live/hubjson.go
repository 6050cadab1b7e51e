package live

import (
	"bytes"
	"math"
	"slices"
	"strconv"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// maxMessage bounds a message: the tags of a collector stand beside each of its readings, so that a small event can
	// be a large text. A relay with as many series as it may have needs a tenth of it.
	maxMessage = 4 << 20
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

// encoder makes messages of events. Every series is spelled once, so that a reading costs two copies and the
// number. It belongs to one goroutine; what it returns does not.
type encoder struct {
	metrics  *hubMetrics
	cache    lookup.Cache[struct{}, *spelled]
	readings []reading
	buf      []byte
	refs     []ref

	arena    []byte // room for messages
	refArena []ref
}

func newEncoder(m *hubMetrics) *encoder { return &encoder{metrics: m} }

// resolve finds the readings of an event with their spelling.
func (c *encoder) resolve(e *codec.Event) []reading {
	if c.cache.Len() > maxTopics { // names that never repeat
		c.cache = lookup.Cache[struct{}, *spelled]{}
	}
	c.readings = c.cache.Relay(e.Relay).Resolve(e, c.readings[:0])
	for i := range c.readings {
		if s := c.readings[i].Series; s.Data == nil {
			s.Data = spell(s)
		}
	}
	return c.readings
}

func spell(s *series) *spelled {
	head := appendString([]byte(`{"stat":`), s.Stat)
	sp := &spelled{stat: s.Stat, tags: s.Set.Tags, head: string(append(head, `,"value":`...))}
	for _, other := range s.Set.Series {
		if other.Data != nil {
			sp.tail = other.Data.tail // one text for all
			return sp
		}
	}
	tail := []byte(`,"tags":{`)
	for i, t := range s.Set.Tags {
		if i > 0 {
			tail = append(tail, ',')
		}
		tail = append(appendString(tail, t.Key), ':')
		tail = appendString(tail, t.Value)
	}
	sp.tail = string(append(tail, '}', '}'))
	return sp
}

// appendEntry appends the message of an event with all of its readings, in memory of its own. An event without readings has none.
func (c *encoder) appendEntry(dst []entry, seq uint64, e *codec.Event) []entry {
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
	c.leave(left)
	if len(c.refs) == 0 {
		return dst
	}
	c.buf = appendTail(c.buf, left)
	return append(dst, entry{seq: seq, head: int32(head), data: c.keep(c.buf), refs: c.keepRefs(c.refs)})
}

// appendMatching appends the message of an event with those readings that match, nothing if there are none.
func (c *encoder) appendMatching(dst []byte, seq uint64, e *codec.Event, m *matcher) ([]byte, bool) {
	begin, first, left := len(dst), true, 0
	for _, r := range c.resolve(e) {
		if !m.takes(r.Series.Data) {
			continue
		}
		if len(dst)-begin+len(r.Series.Data.tail) > maxMessage {
			left++
			continue
		}
		if first {
			dst = appendHead(dst, seq, e)
		}
		dst = appendReading(dst, first, r)
		first = false
	}
	c.leave(left)
	if first {
		return dst, false
	}
	return appendTail(dst, left), true
}

// leave counts readings that did not fit.
func (c *encoder) leave(n int) {
	if n > 0 {
		c.metrics.leftOut.Add(float64(n))
	}
}

// appendSelected appends an entry's message with those readings that match, nothing if there are none.
func appendSelected(dst []byte, e *entry, m *matcher) ([]byte, bool) {
	if m.all() {
		return append(dst, e.data...), true
	}
	first, from := true, e.head
	for i := range e.refs {
		r := &e.refs[i]
		if m.takes(r.of) {
			if first {
				dst = append(dst, e.data[:e.head]...)
			} else {
				dst = append(dst, ',')
			}
			dst = append(dst, e.data[from:r.end]...)
			first = false
		}
		from = r.end + 1
	}
	if first {
		return dst, false
	}
	return append(dst, e.data[from-1:]...), true
}

func appendHead(dst []byte, seq uint64, e *codec.Event) []byte {
	dst = strconv.AppendUint(append(dst, "id: "...), seq, 10)
	dst = appendString(append(dst, "\nevent: readings\ndata: {\"relay\":"...), e.Relay)
	dst = strconv.AppendInt(append(dst, `,"time":`...), e.Time, 10)
	return append(dst, `,"readings":[`...)
}

func appendReading(dst []byte, first bool, r reading) []byte {
	if !first {
		dst = append(dst, ',')
	}
	dst = append(dst, r.Series.Data.head...)
	dst = appendNumber(dst, r.Value)
	return append(dst, r.Series.Data.tail...)
}

// appendTail ends a message. left is how many readings it would have been too large for.
func appendTail(dst []byte, left int) []byte {
	dst = append(dst, ']')
	if left > 0 {
		dst = strconv.AppendInt(append(dst, `,"left_out":`...), int64(left), 10)
	}
	return append(dst, "}\n\n"...)
}

// appendNumber appends a number as encoding/json does: the shortest that reads back as the same float64. What JSON has no
// number for, and the journal does not hold, is null.
func appendNumber(dst []byte, v float64) []byte {
	abs := math.Abs(v)
	if math.IsNaN(v) || abs > math.MaxFloat64 {
		return append(dst, "null"...)
	}
	if abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, v, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, v, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 is e-9
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// keep copies a message into memory that is never written again.
func (c *encoder) keep(b []byte) []byte {
	if len(b) > arenaBytes/4 {
		return bytes.Clone(b)
	}
	if len(b) > cap(c.arena)-len(c.arena) {
		c.arena = make([]byte, 0, arenaBytes)
	}
	at := len(c.arena)
	c.arena = append(c.arena, b...)
	return c.arena[at:len(c.arena):len(c.arena)]
}

func (c *encoder) keepRefs(refs []ref) []ref {
	if len(refs) > arenaRefs/4 {
		return slices.Clone(refs)
	}
	if len(refs) > cap(c.refArena)-len(c.refArena) {
		c.refArena = make([]ref, 0, arenaRefs)
	}
	at := len(c.refArena)
	c.refArena = append(c.refArena, refs...)
	return c.refArena[at:len(c.refArena):len(c.refArena)]
}

// matcher tells which series a stream is to hold.
type matcher struct {
	stat    string
	filters []tagFilter

	// The readings of a collector follow each other and share their tags.
	last  *lookup.Tag // of the tags looked at last
	taken bool        // and whether they match
}

type tagFilter struct {
	key    string
	values []string
}

func newMatcher(r Request) matcher {
	m := matcher{stat: r.Stat}
	for key, values := range r.Filters {
		m.filters = append(m.filters, tagFilter{key, slices.Clone(values)})
	}
	return m
}

func (m *matcher) all() bool { return m.stat == "" && len(m.filters) == 0 }

func (m *matcher) takes(s *spelled) bool {
	if m.stat != "" && m.stat != s.stat {
		return false
	}
	if len(m.filters) == 0 {
		return true
	}
	if tags := &s.tags[0]; m.last != tags { // there is always the host
		m.last, m.taken = tags, m.match(s.tags)
	}
	return m.taken
}

func (m *matcher) match(tags []lookup.Tag) bool {
	for _, f := range m.filters {
		value := ""
		for _, t := range tags {
			if t.Key == f.key {
				value = t.Value
				break
			}
		}
		if !slices.Contains(f.values, value) {
			return false
		}
	}
	return true
}
