package relaywire

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// GotItem is one reading of a got, took or past line to be written.
type GotItem struct {
	Collector, Stat string
	Value           float64
}

// OverrideItem is one collector of an override line.
type OverrideItem struct {
	Name     string
	Interval time.Duration
}

// AppendID appends the first line of a relay. An empty token is left out. Any other token is
// written as token:{token}, so that a server that wants none does not take it for a part of the id.
func AppendID(dst []byte, id, token string) []byte {
	dst = append(dst, "id "...)
	dst = appendText(dst, id, "", MaxName)
	if token != "" {
		dst = append(dst, ' ')
		dst = append(dst, tokenMark...)
		dst = appendText(dst, TrimToken(token), " ", MaxName)
	}
	return append(dst, '\n')
}

// AppendAdd appends an add line. Empty tags and tags beyond MaxTags are left out. The colon is
// written even without tags, as released relays write it.
func AppendAdd(dst []byte, name string, tags []string) []byte {
	dst = append(dst, "add "...)
	dst = appendText(dst, name, reservedInNames, MaxName)
	dst = append(dst, ':')
	n := 0
	for _, tag := range tags {
		if tag == "" || n == MaxTags {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, tag, ",", MaxTag)
	}
	return append(dst, '\n')
}

// AppendRemove appends a remove line.
func AppendRemove(dst []byte, name string) []byte {
	dst = append(dst, "remove "...)
	dst = appendText(dst, name, reservedInNames, MaxName)
	return append(dst, '\n')
}

// AppendGot appends the items as one got line, or as several when they do not fit in one. Values
// that are not finite are left out; when no item remains, nothing is appended. Numbers are written
// in the shortest form that reads back as the same number.
func AppendGot(dst []byte, items []GotItem) []byte {
	const verb = "got "
	start := len(dst)
	for i := range items {
		it := &items[i]
		if math.IsNaN(it.Value) || math.IsInf(it.Value, 0) {
			continue
		}
		mark := len(dst)
		dst = beginItem(dst, start, verb)
		dst = appendItem(dst, it)
		dst, start = breakLine(dst, start, mark, verb)
	}
	return endLine(dst, start)
}

func appendItem(dst []byte, it *GotItem) []byte {
	dst = appendText(dst, it.Collector, reservedInNames, MaxName)
	dst = append(dst, '-')
	dst = appendText(dst, it.Stat, reservedInNames, MaxName)
	dst = append(dst, ':')
	return strconv.AppendFloat(dst, it.Value, 'g', -1, 64)
}

// AppendGet appends a get line, or several when the names do not fit in one. Empty names are left
// out; without names nothing is appended.
func AppendGet(dst []byte, names []string) []byte {
	const verb = "get "
	start := len(dst)
	for _, name := range names {
		if name == "" {
			continue
		}
		mark := len(dst)
		dst = beginItem(dst, start, verb)
		dst = appendText(dst, name, reservedInNames, MaxName)
		dst, start = breakLine(dst, start, mark, verb)
	}
	return endLine(dst, start)
}

// AppendOverride appends an override line, or several when the items do not fit in one. Without
// items nothing is appended. Durations are written in seconds and kept between a millisecond and
// MaxDuration. Durations of a second or more are rounded up to whole seconds, because older relays
// read whole numbers only.
func AppendOverride(dst []byte, d time.Duration, items []OverrideItem) []byte {
	var scratch [48]byte
	verb := append(appendSeconds(append(scratch[:0], "override "...), d), ' ')
	start := len(dst)
	for i := range items {
		if items[i].Name == "" {
			continue
		}
		mark := len(dst)
		if mark == start {
			dst = append(dst, verb...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendText(dst, items[i].Name, reservedInNames, MaxName)
		dst = append(dst, ':')
		dst = appendSeconds(dst, items[i].Interval)
		dst, start = breakLine(dst, start, mark, alias(verb))
	}
	return endLine(dst, start)
}

// AppendBeat appends a beat line; d is written as in AppendOverride.
func AppendBeat(dst []byte, d time.Duration) []byte {
	return append(appendSeconds(append(dst, "beat "...), d), '\n')
}

// AppendPing appends a ping line.
func AppendPing(dst []byte) []byte { return append(dst, "ping\n"...) }

// AppendPong appends a pong line.
func AppendPong(dst []byte) []byte { return append(dst, "pong\n"...) }

// AppendOK appends an ok line.
func AppendOK(dst []byte) []byte { return append(dst, "ok\n"...) }

// AppendFlush appends a flush line.
func AppendFlush(dst []byte) []byte { return append(dst, "flush\n"...) }

// AppendClose appends a close line.
func AppendClose(dst []byte) []byte { return append(dst, "close\n"...) }

// AppendError appends an error line. A reason of several lines becomes one line and is cut after 1
// KiB.
func AppendError(dst []byte, reason string) []byte {
	dst = append(dst, "error "...)
	return append(appendText(dst, reason, "", 1<<10), '\n')
}

const reservedInNames = "-:,"

// beginItem appends what comes before the next item of a list: the verb on a new line, otherwise a
// comma.
func beginItem(dst []byte, start int, verb string) []byte {
	if len(dst) == start {
		return append(dst, verb...)
	}
	return append(dst, ',')
}

// breakLine is called after an item has been appended. The item begins (with its comma) at mark,
// and its line begins at start. If the line has become too long, breakLine replaces the comma by a
// newline and the verb. It returns where the current line begins.
func breakLine(dst []byte, start, mark int, verb string) ([]byte, int) {
	if len(dst)-start < MaxLine || mark == start {
		return dst, start
	}
	n := len(dst)
	dst = append(dst, verb...) // room; the comma becomes the newline
	copy(dst[mark+1+len(verb):], dst[mark+1:n])
	dst[mark] = '\n'
	copy(dst[mark+1:], verb)
	return dst, mark + 1
}

func endLine(dst []byte, start int) []byte {
	if len(dst) == start {
		return dst
	}
	return append(dst, '\n')
}

// appendText appends s unchanged if it is a valid text without the reserved bytes. Otherwise it
// writes an underscore for every byte that cannot be sent and for a space at either end, and cuts
// the text at limit. If nothing is left, it writes a lone underscore.
func appendText(dst []byte, s, reserved string, limit int) []byte {
	if validText(s, limit) && !strings.ContainsAny(s, reserved) {
		return append(dst, s...)
	}
	start := len(dst)
	for _, c := range s {
		n := utf8.RuneLen(c)
		switch {
		case c < ' ' || c == 0x7f || c == utf8.RuneError || strings.ContainsRune(reserved, c):
			c, n = '_', 1
		case c == ' ' && len(dst) == start:
			c = '_'
		}
		if len(dst)-start+n > limit {
			break
		}
		dst = utf8.AppendRune(dst, c)
	}
	if len(dst) == start {
		return append(dst, '_')
	}
	if last := len(dst) - 1; dst[last] == ' ' {
		dst[last] = '_'
	}
	return dst
}

func appendSeconds(dst []byte, d time.Duration) []byte {
	switch {
	case d > MaxDuration:
		d = MaxDuration
	case d < time.Millisecond:
		d = time.Millisecond
	}
	if d >= time.Second {
		return strconv.AppendInt(dst, int64((d+time.Second-1)/time.Second), 10)
	}
	return strconv.AppendFloat(dst, d.Seconds(), 'f', -1, 64)
}
