package relaywire

import (
	"bytes"
	"iter"
	"unicode/utf8"
)

// Reading is one item of a got line.
type Reading struct {
	// Collector and Stat alias the line. Stat equals Collector for the short form {name}:{value}.
	// When Err is ErrBadName, ErrReserved or ErrNoValue, Collector is the item's text before its
	// colon and Stat is nil.
	Collector, Stat []byte
	// Value is finite, and 0 when Err is set.
	Value float64
	// Err is nil, ErrNoValue, ErrBadName, ErrReserved, ErrNotNumber or ErrNotFinite. The other
	// readings of the line are not touched by it.
	Err error
}

// Readings yields the items of a got line in their order, the rejected ones with Err set; empty
// items (a comma at the end) are left out. Ranging over it does not allocate.
//
// Half a value is no value: a decimal comma, as in cpu-used:0,25, is part of the item, which is
// then ErrNotNumber. An item ends at the comma before the next item, and what has no colon and does
// not begin like a name is none.
//
// What Pulse 0.2 made of odd items, and what becomes of them here: a text value was stored as -1
// and is ErrNotNumber; an item without a value was dropped and is ErrNoValue; one with two dashes
// was dropped and is ErrBadName; one without a dash was dropped and is accepted as a stat of the
// collector's own name; of a value with a decimal comma the whole part was stored.
func Readings(args []byte) iter.Seq[Reading] {
	return func(yield func(Reading) bool) {
		for rest := args; len(rest) > 0; {
			end := itemEnd(rest)
			item := rest[:end]
			rest = rest[min(end+1, len(rest)):]
			if item = trimSpaces(item); len(item) > 0 && !yield(parseReading(item)) {
				return
			}
		}
	}
}

// itemEnd returns where the first item of list ends.
func itemEnd(list []byte) int {
	end := 0
	for {
		i := bytes.IndexByte(list[end:], ',')
		if i < 0 {
			return len(list)
		}
		end += i
		if !continues(list[end+1:]) {
			return end
		}
		end++
	}
}

// continues reports whether what rest, which follows a comma, begins with belongs to the value
// before it: 25 of 0,25. It has no colon up to the next comma, and does not begin like a name.
func continues(rest []byte) bool {
	for i, c := range rest {
		switch {
		case c == ' ':
		case 'a' <= c|0x20 && c|0x20 <= 'z', c == '_', c == ',', c >= utf8.RuneSelf:
			return false
		default:
			j := bytes.IndexAny(rest[i:], ":,")
			return j < 0 || rest[i+j] == ','
		}
	}
	return false
}

// parseReading makes one pass over the name and one over the value.
func parseReading(item []byte) Reading {
	dash, end := -1, -1
	bad, ascii := false, true
scan:
	for i, c := range item {
		switch {
		case c == ':':
			end = i
			break scan
		case c == '-':
			bad = bad || dash >= 0
			dash = i
		case c < ' ' || c == 0x7f:
			bad = true
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if end < 0 {
		return Reading{Collector: item, Err: ErrNoValue}
	}
	name := trimSpaces(item[:end])
	collector, stat := name, name
	if dash >= 0 {
		collector, stat = trimSpaces(item[:dash]), trimSpaces(item[dash+1:end])
	}
	if bad || len(collector) == 0 || len(stat) == 0 || len(collector) > MaxName || len(stat) > MaxName || !ascii && !utf8.Valid(name) {
		return Reading{Collector: name, Err: ErrBadName}
	}
	if string(stat) == Reserved || string(collector) == Reserved {
		return Reading{Collector: name, Err: ErrReserved}
	}
	value, err := parseValue(trimSpaces(item[end+1:]))
	if err == ErrNoValue {
		return Reading{Collector: name, Err: err}
	}
	return Reading{Collector: collector, Stat: stat, Value: value, Err: err}
}
