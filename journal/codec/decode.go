package codec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Decoder decodes events, keeping the strings it has seen: in a steady state a reading costs no
// allocation. The zero value is ready. A Decoder is for one goroutine; the strings it returns stay
// valid.
type Decoder struct {
	p     parser
	names map[string]string
	bytes int
	last  []string // the names of the last event, in order: the next one's are mostly the same
	nth   int      // how many of this event were read

	sets     map[string][]string // tag sets by their JSON
	setBytes int
}

// DecodeEvent decodes data into e, reusing e's slices; every field of e is set. Collectors with equal
// tags may share the slice, which must not be changed.
//
// It reads every version: any JSON that encoding/json would take for the version's schema, with keys
// in any order and any case, unknown fields (skipped), any white space and escapes. The last of a
// repeated key counts, but a collector or a stat that is there twice is kept twice. What is null is
// no reading. The error is a *DecodeError, and e is undefined then.
func (d *Decoder) DecodeEvent(data []byte, e *Event) error {
	if version := beginning(data); version > 0 && d.event(data, e, version) == nil {
		return nil
	}
	// Not as EncodeEvent writes: what the other fields mean depends on a "v" that may stand anywhere.
	version, err := d.version(data, EventVersion)
	if err != nil {
		return err
	}
	return d.event(data, e, version)
}

// beginning returns the version if data begins as EncodeEvent writes it, and 0 otherwise.
func beginning(data []byte) int64 {
	if len(data) > 6 && string(data[:5]) == `{"v":` && data[6] == ',' {
		if v := data[5] - '0'; 1 <= v && v <= EventVersion {
			return int64(v)
		}
	}
	return 0
}

// version returns the version of an event: 1 if there is no "v". An unknown one, of a newer release,
// is an error.
func (d *Decoder) version(data []byte, newest int64) (int64, error) {
	p, version := d.reset(data), int64(1)
	p.object(func(key []byte) {
		if keyOf(key) == "v" {
			p.int(&version)
		} else {
			p.skip()
		}
	})
	err := p.finish()
	if err == nil && (version < 1 || version > newest) {
		err = &DecodeError{Reason: fmt.Sprintf("version %d is not known; a newer pulse wrote this", version)}
	}
	return version, err
}

// event decodes an event of the version.
func (d *Decoder) event(data []byte, e *Event, version int64) error {
	*e = Event{Collectors: e.Collectors[:0]}
	p, written := d.reset(data), int64(1)
	p.object(func(key []byte) {
		switch name := keyOf(key); {
		case name == "v":
			p.int(&written)
		case name == "relay":
			d.string(&e.Relay)
		case name == "time":
			p.int(&e.Time)
		case name == "edge":
			d.string(&e.Edge)
		case name == "origin":
			p.int(&e.Origin)
		case name == "spool":
			d.spool(&e.Spool)
		case name == "past":
			p.bool(&e.Past)
		case name == "stats" && version > 1:
			d.groups(e)
		case name == "collectors" && version == 1:
			d.collectors(e)
		default:
			p.skip()
		}
	})
	if written != version {
		p.fail("another version")
	}
	return p.finish()
}

// DecodeRelayEvent decodes data into e, with the same tolerance as DecodeEvent.
func (d *Decoder) DecodeRelayEvent(data []byte, e *RelayEvent) error {
	*e = RelayEvent{Tags: e.Tags[:0]}
	if _, err := d.version(data, RelayEventVersion); err != nil {
		return err
	}
	p := d.reset(data)
	var kind string
	p.object(func(key []byte) {
		switch keyOf(key) {
		case "relay":
			d.string(&e.Relay)
		case "time":
			p.int(&e.Time)
		case "edge":
			d.string(&e.Edge)
		case "origin":
			p.int(&e.Origin)
		case "kind":
			d.string(&kind)
		case "collector":
			d.string(&e.Collector)
		case "tags":
			d.strings(&e.Tags)
		case "addr":
			d.string(&e.Addr)
		case "reason":
			d.string(&e.Reason)
		case "duration":
			p.seconds(&e.Duration)
		case "interval":
			p.seconds(&e.Interval)
		default:
			p.skip()
		}
	})
	e.Kind = RelayEventKind(kind)
	return p.finish()
}

// spool reads three numbers: the id, first and seq. What is null stays as it is, what is not there is 0.
func (d *Decoder) spool(s *Spool) {
	p, id, nth := &d.p, int64(s.ID), 0
	p.array(func() {
		switch nth++; nth {
		case 1:
			p.int(&id)
		case 2:
			p.int(&s.First)
		case 3:
			p.int(&s.Seq)
		default:
			p.skip()
		}
	})
	switch nth {
	case 0:
		id, s.First, s.Seq = 0, 0, 0
	case 1:
		s.First, s.Seq = 0, 0
	case 2:
		s.Seq = 0
	}
	if s.ID = uint32(id); int64(s.ID) != id {
		p.fail("the id of a spool out of range")
	}
}

func (d *Decoder) reset(data []byte) *parser {
	d.p, d.nth = parser{data: data, scratch: d.p.scratch[:0]}, 0
	return &d.p
}

// collector returns the next collector of e, with the room for stats that it had in an earlier
// event.
func (e *Event) collector() *Collector {
	n := len(e.Collectors)
	if n < cap(e.Collectors) {
		e.Collectors = e.Collectors[:n+1]
	} else {
		e.Collectors = append(e.Collectors, Collector{})
	}
	c := &e.Collectors[n]
	c.Name, c.Tags, c.Stats = "", nil, c.Stats[:0]
	return c
}

// groups reads the collectors of version 2: pairs of tags and the collectors that have them.
func (d *Decoder) groups(e *Event) {
	p := &d.p
	e.Collectors = e.Collectors[:0]
	p.array(func() {
		var tags []string
		nth := 0
		p.array(func() {
			switch nth++; nth {
			case 1:
				tags = d.tags()
			case 2:
				d.group(e, tags)
			default:
				p.skip()
			}
		})
	})
}

func (d *Decoder) group(e *Event, tags []string) {
	p := &d.p
	p.object(func(key []byte) {
		if p.null() {
			return
		}
		c := e.collector()
		c.Name, c.Tags = d.intern(key), tags
		if p.next() == '{' {
			d.stats(c)
		} else {
			c.Stats = append(c.Stats, Stat{ID: c.Name, Value: p.float()})
		}
	})
}

// collectors reads the collectors of version 1.
func (d *Decoder) collectors(e *Event) {
	p := &d.p
	e.Collectors = e.Collectors[:0]
	p.array(func() {
		c := e.collector()
		p.object(func(key []byte) {
			switch keyOf(key) {
			case "name":
				d.string(&c.Name)
			case "tags":
				c.Tags = d.tags()
			case "stats":
				d.stats(c)
			default:
				p.skip()
			}
		})
	})
}

func (d *Decoder) stats(c *Collector) {
	p := &d.p
	c.Stats = c.Stats[:0]
	p.object(func(key []byte) {
		if p.null() {
			return
		}
		id := d.intern(key)
		c.Stats = append(c.Stats, Stat{ID: id, Value: p.float()})
	})
}

func (d *Decoder) string(s *string) {
	if !d.p.null() {
		*s = d.intern(d.p.string())
	}
}

func (d *Decoder) strings(list *[]string) {
	*list = (*list)[:0]
	d.p.array(func() {
		var s string
		d.string(&s)
		*list = append(*list, s)
	})
}

// keyOf returns the key of the schema that key is in any case, as encoding/json compares; "" if it
// is none. The result is valid as long as key.
func keyOf(key []byte) string {
	switch name := view(key); name {
	case "v", "relay", "time", "collectors", "name", "tags", "stats", "kind", "collector", "addr", "reason", "duration", "interval", "spool", "past", "edge", "origin":
		return name
	}
	return otherCase(view(key))
}

// otherCase is keyOf of a key that is not written as this package writes it.
func otherCase(key string) string {
	for _, name := range [...]string{"v", "relay", "time", "collectors", "name", "tags", "stats", "kind", "collector", "addr",
		"reason", "duration", "interval", "spool", "past", "edge", "origin"} {
		if strings.EqualFold(key, name) {
			return name
		}
	}
	return ""
}

func (p *parser) seconds(d *time.Duration) {
	if p.null() {
		return
	}
	ms := math.Round(p.float() * 1e3)
	if math.Abs(ms) > float64(math.MaxInt64/int64(time.Millisecond)) {
		p.fail("a time span out of range")
		return
	}
	*d = time.Duration(ms) * time.Millisecond
}

// view is b as a string for the duration of one call.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// float parses a JSON number. A decimal of at most 15 digits is exact as integer and power of ten,
// so one division gives the nearest float64 (Clinger 1990); everything else goes to strconv.
func (p *parser) float() float64 {
	start, i, data := p.i, p.i, p.data
	neg := i < len(data) && data[i] == '-'
	if neg {
		i++
	}
	first := i
	var m uint64
	for i < len(data) && data[i]-'0' <= 9 {
		m = m*10 + uint64(data[i]-'0')
		i++
	}
	digits, scale := i-first, 0
	if digits == 0 || (digits > 1 && data[first] == '0') {
		p.fail("not a number")
		return 0
	}
	if i < len(data) && data[i] == '.' {
		i++
		point := i
		for i < len(data) && data[i]-'0' <= 9 {
			m = m*10 + uint64(data[i]-'0')
			i++
		}
		if scale = i - point; scale == 0 {
			p.fail("a number ends in its point")
			return 0
		}
		digits += scale
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		exp := i
		for i < len(data) && data[i]-'0' <= 9 {
			i++
		}
		if i == exp {
			p.fail("a number ends in its exponent")
			return 0
		}
		digits = 99
	}
	p.i = i
	if digits <= 15 {
		v := float64(m)
		if scale > 0 {
			v /= pow10[scale]
		}
		if neg {
			v = -v
		}
		return v
	}
	v, err := strconv.ParseFloat(view(data[start:i]), 64)
	if err != nil {
		p.i, p.end = start, i
		p.fail(outOfRange)
		return 0
	}
	return v
}
