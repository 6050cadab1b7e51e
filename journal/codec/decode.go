package codec

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// The intern table of a decoder is emptied when it holds this many strings or bytes: a fleet of
// 10,000 relays with some hundred stats stays far below, and a stream of names that never repeat
// stays bounded.
const (
	internStrings = 1 << 16
	internBytes   = 8 << 20
	internLongest = 256
	// This many names of the last event are tried before the table.
	internLast = 4096
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
}

// DecodeEvent decodes data into e, reusing e's slices; every field of e is set. It takes any JSON
// that encoding/json would take for the schema: keys in any order and any case, unknown fields
// (skipped), any white space and escapes; the last of a repeated key counts, but a stat that is
// there twice is kept twice. A null stat is no reading. The error is a *DecodeError, and e is
// undefined then.
func (d *Decoder) DecodeEvent(data []byte, e *Event) error {
	e.Relay, e.Time, e.Collectors = "", 0, e.Collectors[:0]
	p := d.reset(data)
	version := int64(Version)
	p.object(func(key []byte) {
		switch keyOf(key) {
		case "v":
			p.int(&version)
		case "relay":
			d.string(&e.Relay)
		case "time":
			p.int(&e.Time)
		case "collectors":
			d.collectors(e)
		default:
			p.skip()
		}
	})
	return p.finish(version)
}

// DecodeRelayEvent decodes data into e, with the same tolerance as DecodeEvent.
func (d *Decoder) DecodeRelayEvent(data []byte, e *RelayEvent) error {
	*e = RelayEvent{Tags: e.Tags[:0]}
	p := d.reset(data)
	version := int64(Version)
	var kind string
	p.object(func(key []byte) {
		switch keyOf(key) {
		case "v":
			p.int(&version)
		case "relay":
			d.string(&e.Relay)
		case "time":
			p.int(&e.Time)
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
	return p.finish(version)
}

func (d *Decoder) reset(data []byte) *parser {
	d.p, d.nth = parser{data: data, scratch: d.p.scratch[:0]}, 0
	return &d.p
}

func (d *Decoder) collectors(e *Event) {
	p := &d.p
	e.Collectors = e.Collectors[:0]
	p.array(func() {
		n := len(e.Collectors)
		if n < cap(e.Collectors) {
			e.Collectors = e.Collectors[:n+1] // with the slices of an earlier event, to be used again
		} else {
			e.Collectors = append(e.Collectors, Collector{})
		}
		c := &e.Collectors[n]
		c.Name, c.Tags, c.Stats = "", c.Tags[:0], c.Stats[:0]
		p.object(func(key []byte) {
			switch keyOf(key) {
			case "name":
				d.string(&c.Name)
			case "tags":
				d.strings(&c.Tags)
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

// intern returns b as a string, the same one for the same bytes.
func (d *Decoder) intern(b []byte) string {
	nth := d.nth
	d.nth++
	if nth < len(d.last) && d.last[nth] == string(b) {
		return d.last[nth]
	}
	s := d.lookUp(b)
	switch {
	case len(s) > internLongest || nth > len(d.last) || nth == internLast:
	case nth == len(d.last):
		d.last = append(d.last, s)
	default:
		d.last[nth] = s
	}
	return s
}

func (d *Decoder) lookUp(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	if len(b) == 0 {
		return ""
	}
	s := string(b)
	if len(b) > internLongest {
		return s
	}
	if d.names == nil || len(d.names) >= internStrings || d.bytes > internBytes {
		d.names, d.bytes = make(map[string]string, 256), 0
	}
	d.names[s] = s
	d.bytes += len(s)
	return s
}

// keyOf returns the key of the schema that key is in any case, as encoding/json compares; "" if it
// is none. The result is valid as long as key.
func keyOf(key []byte) string {
	switch name := view(key); name {
	case "v", "relay", "time", "collectors", "name", "tags", "stats", "kind", "collector", "addr", "reason", "duration", "interval":
		return name
	}
	return otherCase(view(key))
}

// otherCase is keyOf of a key that is not written as this package writes it.
func otherCase(key string) string {
	for _, name := range [...]string{"v", "relay", "time", "collectors", "name", "tags", "stats", "kind", "collector", "addr",
		"reason", "duration", "interval"} {
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
