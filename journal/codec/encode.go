package codec

import (
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// The versions of the two forms that this package writes, the "v" of what it writes. A decoder reads
// every version since 1.
const (
	EventVersion      = 2
	RelayEventVersion = 1
)

// EncodeEvent appends the event's JSON to dst, in the one form that golden files hold:
//
//	{"v":2,"relay":"web1","time":1795416970017829163,"stats":[[["guy"],{"cpu_used":0.25,"disk":{"sda":50,"sdb":41.2}}]]}
//
// stats is a list of pairs: tags, and the collectors in a row that have these tags. A collector is
// the number alone when its only stat has its name, as relays of Pulse 0.2 send most, and an object
// of its stats otherwise. An event of a relay that has a spool also says which record it is, and
// whether it waited there, before the stats: "spool":[1596588225,42,43],"past":true. What a hub took
// from an edge also says so, after the time: "edge":"ams1","origin":8000.
//
// EncodeEvent does not allocate beyond dst. Numbers are the shortest that read back as the same
// float64; bytes that are not UTF-8 become U+FFFD. On an error (ErrNotFinite) dst is returned as it
// came.
func EncodeEvent(dst []byte, e *Event) ([]byte, error) {
	start := len(dst)
	dst = append(dst, `{"v":2,"relay":`...)
	dst = appendString(dst, e.Relay)
	dst = append(dst, `,"time":`...)
	dst = strconv.AppendInt(dst, e.Time, 10)
	dst = appendOrigin(dst, e.Edge, e.Origin)
	if e.Spool != (Spool{}) {
		dst = appendSpool(dst, e.Spool)
	}
	if e.Past {
		dst = append(dst, `,"past":true`...)
	}
	dst = append(dst, `,"stats":[`...)
	for i := range e.Collectors {
		c := &e.Collectors[i]
		switch {
		case i == 0:
			dst = append(appendStrings(append(dst, '['), c.Tags), ',', '{')
		case slices.Equal(c.Tags, e.Collectors[i-1].Tags):
			dst = append(dst, ',')
		default:
			dst = append(appendStrings(append(dst, '}', ']', ',', '['), c.Tags), ',', '{')
		}
		dst = appendString(dst, c.Name)
		alone := len(c.Stats) == 1 && c.Stats[0].ID == c.Name
		if !alone {
			dst = append(dst, ':', '{')
		}
		for k := range c.Stats {
			s := &c.Stats[k]
			if k > 0 {
				dst = append(dst, ',')
			}
			if !alone {
				dst = appendString(dst, s.ID)
			}
			dst = append(dst, ':')
			if !isFinite(s.Value) {
				return dst[:start], ErrNotFinite
			}
			dst = appendFloat(dst, s.Value)
		}
		if !alone {
			dst = append(dst, '}')
		}
	}
	if len(e.Collectors) > 0 {
		dst = append(dst, '}', ']')
	}
	return append(dst, ']', '}'), nil
}

func appendOrigin(dst []byte, edge string, origin int64) []byte {
	if edge != "" {
		dst = appendString(append(dst, `,"edge":`...), edge)
	}
	if origin != 0 {
		dst = strconv.AppendInt(append(dst, `,"origin":`...), origin, 10)
	}
	return dst
}

func appendSpool(dst []byte, s Spool) []byte {
	dst = strconv.AppendUint(append(dst, `,"spool":[`...), uint64(s.ID), 10)
	dst = strconv.AppendInt(append(dst, ','), s.First, 10)
	dst = strconv.AppendInt(append(dst, ','), s.Seq, 10)
	return append(dst, ']')
}

// isFinite reports whether v is neither NaN nor infinite: only these minus themselves are not 0.
func isFinite(v float64) bool { return v-v == 0 }

// EncodeRelayEvent appends the relay event's JSON to dst:
//
//	{"v":1,"relay":"web1","time":1795416970017829163,"kind":"added","collector":"cpu","tags":["guy"]}
//
// Empty fields are left out; duration and interval are seconds. Edge and origin are as in an event.
func EncodeRelayEvent(dst []byte, e *RelayEvent) []byte {
	dst = append(dst, `{"v":1,"relay":`...)
	dst = appendString(dst, e.Relay)
	dst = append(dst, `,"time":`...)
	dst = strconv.AppendInt(dst, e.Time, 10)
	dst = appendOrigin(dst, e.Edge, e.Origin)
	dst = append(dst, `,"kind":`...)
	dst = appendString(dst, string(e.Kind))
	if e.Collector != "" {
		dst = append(dst, `,"collector":`...)
		dst = appendString(dst, e.Collector)
	}
	if len(e.Tags) > 0 {
		dst = append(dst, `,"tags":`...)
		dst = appendStrings(dst, e.Tags)
	}
	if e.Addr != "" {
		dst = append(dst, `,"addr":`...)
		dst = appendString(dst, e.Addr)
	}
	if e.Reason != "" {
		dst = append(dst, `,"reason":`...)
		dst = appendString(dst, e.Reason)
	}
	if e.Duration != 0 {
		dst = append(dst, `,"duration":`...)
		dst = appendSeconds(dst, e.Duration)
	}
	if e.Interval != 0 {
		dst = append(dst, `,"interval":`...)
		dst = appendSeconds(dst, e.Interval)
	}
	return append(dst, '}')
}

// Seconds are written from whole milliseconds, so that what is read back is exactly what was
// written.
func appendSeconds(dst []byte, d time.Duration) []byte {
	return appendFloat(dst, float64(d.Milliseconds())/1e3)
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

const hexDigits = "0123456789abcdef"

// plain holds the bytes that stand for themselves inside a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func appendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if !plain[s[i]] {
			return appendQuoted(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case plain[c]:
			dst = append(dst, c)
			i++
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r) // RuneError becomes U+FFFD
			i += size
		}
	}
	return append(dst, '"')
}

// appendFloat writes the shortest decimal that reads back as v. Nearly every reading is a whole
// number or has at most four decimals (what a relay sends), and for these an integer is quicker to
// write: a decimal of at most 15 digits is the only one of that length for its float64, so it is
// the shortest.
func appendFloat(dst []byte, v float64) []byte {
	const exact = 1e15
	if n := v * 1e4; n > -exact && n < exact && (v != 0 || !math.Signbit(v)) {
		i := int64(math.RoundToEven(n))
		if float64(i)/1e4 == v {
			return appendDecimal4(dst, i)
		}
	}
	if a := math.Abs(v); a < 1e-6 || a >= 1e21 {
		if v == 0 {
			return append(dst, '-', '0')
		}
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

// appendDecimal4 writes i/10000 without trailing zeros.
func appendDecimal4(dst []byte, i int64) []byte {
	if i < 0 {
		dst = append(dst, '-')
		i = -i
	}
	whole, frac := uint64(i)/1e4, uint64(i)%1e4
	dst = strconv.AppendUint(dst, whole, 10)
	if frac == 0 {
		return dst
	}
	dst = slices.Grow(dst, 5)
	dst = append(dst, '.', byte('0'+frac/1000), byte('0'+frac/100%10), byte('0'+frac/10%10), byte('0'+frac%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}
