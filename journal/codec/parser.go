package codec

import (
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep an unknown field may be nested.
const maxDepth = 1000

// parser walks one JSON text (RFC 8259). The first error sticks: after it nothing more is read, and
// the callers' loops end by themselves.
type parser struct {
	data    []byte
	i       int
	err     *DecodeError
	scratch []byte // for strings with escapes
	end     int    // of the number that failed with outOfRange
}

func (p *parser) fail(reason string) {
	if p.err == nil {
		p.err = &DecodeError{Offset: min(p.i, len(p.data)), Reason: reason}
		p.i = len(p.data)
	}
}

// finish checks that nothing follows the value.
func (p *parser) finish() error {
	if p.err == nil {
		p.space()
		if p.i != len(p.data) {
			p.fail("something follows the event")
		}
	}
	if p.err != nil {
		return p.err
	}
	return nil
}

func (p *parser) space() {
	for p.i < len(p.data) {
		switch p.data[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// next skips white space and returns the byte there, 0 at the end.
func (p *parser) next() byte {
	if p.i < len(p.data) {
		if c := p.data[p.i]; c > ' ' {
			return c
		}
		p.space()
		if p.i < len(p.data) {
			return p.data[p.i]
		}
	}
	return 0
}

// null consumes a null and reports whether there was one.
func (p *parser) null() bool {
	return p.next() == 'n' && p.literal("null")
}

func (p *parser) literal(s string) bool {
	if len(p.data)-p.i >= len(s) && string(p.data[p.i:p.i+len(s)]) == s {
		p.i += len(s)
		return true
	}
	p.fail("not a JSON value")
	return false
}

// object calls f for each key of an object (none for null), which must consume the value. The key
// is valid until the next string is read.
func (p *parser) object(f func(key []byte)) {
	if p.null() {
		return
	}
	if p.next() != '{' {
		p.fail("not an object")
		return
	}
	p.i++
	if p.next() == '}' {
		p.i++
		return
	}
	for p.err == nil {
		if p.next() != '"' {
			p.fail("not a key")
			return
		}
		key := p.string()
		if p.next() != ':' {
			p.fail("a key without a value")
			return
		}
		p.i++
		p.next()
		f(key)
		switch p.next() {
		case ',':
			p.i++
		case '}':
			p.i++
			return
		default:
			p.fail("an object without an end")
			return
		}
	}
}

// array calls f for each element of an array (none for null), which must consume it.
func (p *parser) array(f func()) {
	if p.null() {
		return
	}
	if p.next() != '[' {
		p.fail("not an array")
		return
	}
	p.i++
	if p.next() == ']' {
		p.i++
		return
	}
	for p.err == nil {
		p.next()
		f()
		switch p.next() {
		case ',':
			p.i++
		case ']':
			p.i++
			return
		default:
			p.fail("an array without an end")
			return
		}
	}
}

// endOfStrings returns where the array ends that begins here, if it is one of strings.
func (p *parser) endOfStrings() int {
	quoted := false
	for i := p.i; i < len(p.data); i++ {
		switch c := p.data[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ']' && !quoted:
			return i + 1
		}
	}
	return len(p.data)
}

// string reads a string; the result is valid until the next call.
func (p *parser) string() []byte {
	if p.next() != '"' {
		p.fail("not a string")
		return nil
	}
	start := p.i + 1
	for i := start; i < len(p.data); i++ {
		c := p.data[i]
		if plain[c] {
			continue
		}
		if c == '"' {
			p.i = i + 1
			return p.data[start:i]
		}
		p.i = i
		return p.unquote(start)
	}
	p.i = len(p.data)
	p.fail("a string without an end")
	return nil
}

// unquote reads the rest of a string that has escapes or bytes beyond ASCII. What is not UTF-8, and
// half a surrogate pair, becomes U+FFFD, as in encoding/json.
func (p *parser) unquote(start int) []byte {
	out := append(p.scratch[:0], p.data[start:p.i]...)
	for p.i < len(p.data) {
		c := p.data[p.i]
		switch {
		case c == '"':
			p.i++
			p.scratch = out
			return out
		case c == '\\':
			r, ok := p.escape()
			if !ok {
				p.fail("not an escape")
				return nil
			}
			out = utf8.AppendRune(out, r)
		case c < ' ':
			p.fail("a control character in a string")
			return nil
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.i++
		default:
			r, size := utf8.DecodeRune(p.data[p.i:])
			out = utf8.AppendRune(out, r)
			p.i += size
		}
	}
	p.fail("a string without an end")
	return nil
}

func (p *parser) escape() (rune, bool) {
	if p.i+1 >= len(p.data) {
		return 0, false
	}
	c := p.data[p.i+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, ok := p.hex4(p.i + 2)
		if !ok {
			return 0, false
		}
		p.i += 6
		if !utf16.IsSurrogate(r) {
			return r, true
		}
		if p.i+1 < len(p.data) && p.data[p.i] == '\\' && p.data[p.i+1] == 'u' {
			if low, ok := p.hex4(p.i + 2); ok {
				if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
					p.i += 6
					return both, true
				}
			}
		}
		return utf8.RuneError, true
	default:
		return 0, false
	}
	p.i += 2
	return rune(c), true
}

func (p *parser) hex4(at int) (r rune, ok bool) {
	if at+4 > len(p.data) {
		return 0, false
	}
	for _, c := range p.data[at : at+4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// bool reads true or false; null leaves v alone.
func (p *parser) bool(v *bool) {
	switch {
	case p.null():
	case p.next() == 't':
		*v = p.literal("true")
	case p.next() == 'f':
		*v = !p.literal("false")
	default:
		p.fail("neither true nor false")
	}
}

// int reads a whole number that fits an int64; null leaves v alone.
func (p *parser) int(v *int64) {
	if p.null() {
		return
	}
	i := p.i
	neg := i < len(p.data) && p.data[i] == '-'
	if neg {
		i++
	}
	first := i
	var n uint64
	for i < len(p.data) && p.data[i]-'0' <= 9 {
		d := uint64(p.data[i] - '0')
		if n > (math.MaxUint64-d)/10 {
			p.fail("a whole number out of range")
			return
		}
		n = n*10 + d
		i++
	}
	switch {
	case i == first, i-first > 1 && p.data[first] == '0':
		p.fail("not a whole number")
	case i < len(p.data) && (p.data[i] == '.' || p.data[i]|0x20 == 'e'):
		p.fail("not a whole number")
	case neg && n <= -math.MinInt64:
		p.i, *v = i, -int64(n)
	case !neg && n <= math.MaxInt64:
		p.i, *v = i, int64(n)
	default:
		p.fail("a whole number out of range")
	}
}

// skip reads any value.
func (p *parser) skip() { p.skipDepth(0) }

func (p *parser) skipDepth(depth int) {
	if depth > maxDepth {
		p.fail("nested too deep")
		return
	}
	switch c := p.next(); c {
	case '{':
		p.object(func([]byte) { p.skipDepth(depth + 1) })
	case '[':
		p.array(func() { p.skipDepth(depth + 1) })
	case '"':
		p.string()
	case 't':
		p.literal("true")
	case 'f':
		p.literal("false")
	case 'n':
		p.literal("null")
	default:
		// The range of a number that nobody reads does not matter, its form does.
		if err := p.err; err == nil {
			p.number()
		}
	}
}

// number skips a number of any size.
func (p *parser) number() {
	_ = p.float()
	if p.err != nil && p.err.Reason == outOfRange {
		p.err, p.i = nil, p.end
	}
}

const outOfRange = "a number out of range"
