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
	// Err is nil, ErrNoValue, ErrBadName, ErrReserved, ErrNotNumber or ErrNotFinite. It does not
	// affect the other readings of the line.
	Err error
}

// Readings yields the items of a got line in their order; a rejected item has Err set. Empty items
// (a comma at the end) are left out. Ranging over Readings does not allocate.
//
// A decimal comma, as in cpu-used:0,25, is part of the item, so that half a value is never stored;
// the item's error is ErrNotNumber. An item ends at the comma before the next item. Text without a
// colon that does not begin like a name does not start an item.
//
// Pulse 0.2 treated some items differently. It stored a text value as -1; here that is
// ErrNotNumber. It dropped an item without a value; here that is ErrNoValue. It dropped an item
// with two dashes; here that is ErrBadName. It dropped an item without a dash; here the item is a
// stat with the collector's own name. Of a value with a decimal comma it stored the whole part.
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

// continues reports whether rest, the text after a comma, begins with a part of the value before
// the comma, such as 25 of 0,25. Such a part has no colon up to the next comma and does not begin
// like a name.
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
