package relaywire

import (
	"bytes"
	"iter"
	"math"
	"time"
	"unsafe"
)

// MaxDuration is the longest beat, override or interval that is accepted: 366 days.
const MaxDuration = 366 * 24 * time.Hour

// ParseID reads the arguments of an id line. A last word token:{token} is the token and never a
// part of the id, whether the server has a token or not. Otherwise, with withToken, the text after
// the last space is the token; without withToken all of args is the id, spaces included, as in
// Pulse 0.2. The token is nil when args hold none. Both results alias args. The error is
// ErrMissingID or ErrBadID.
func ParseID(args []byte, withToken bool) (id, token []byte, err error) {
	id = trimSpaces(args)
	i := bytes.LastIndexByte(id, ' ')
	last := id[i+1:]
	switch marked, ok := bytes.CutPrefix(last, []byte(tokenMark)); {
	case ok:
		id, token = trimSpaces(id[:max(i, 0)]), marked
	case withToken && i >= 0:
		id, token = trimSpaces(id[:i]), last
	}
	if len(token) == 0 {
		token = nil
	}
	if len(id) == 0 {
		return nil, nil, ErrMissingID
	}
	if !ValidID(alias(id)) {
		return nil, nil, ErrBadID
	}
	return id, token, nil
}

// ParseAdd reads the arguments of an add line. It checks everything before it returns, so ranging
// over tags cannot fail. tags is never nil and leaves out empty tags, which released relays send.
// Name and tags alias args. The error is ErrBadName, ErrReserved, ErrBadTag or ErrTooManyTags.
func ParseAdd(args []byte) (name []byte, tags iter.Seq[[]byte], err error) {
	name, list, _ := bytes.Cut(args, colon)
	name = trimSpaces(name)
	if err := CheckName(alias(name)); err != nil {
		return nil, nil, err
	}
	n := 0
	for tag := range split(list) {
		if !ValidTag(alias(tag)) {
			return nil, nil, ErrBadTag
		}
		if n++; n > MaxTags {
			return nil, nil, ErrTooManyTags
		}
	}
	return name, split(list), nil
}

// ParseRemove reads the argument of a remove line. The name aliases args. The error is ErrBadName.
func ParseRemove(args []byte) (name []byte, err error) {
	name = trimSpaces(args)
	if !ValidName(alias(name)) {
		return nil, ErrBadName
	}
	return name, nil
}

// Names yields the names of a get line, without the empty ones. Names does not check them, because
// a relay looks each name up and ignores unknown names. They alias args.
func Names(args []byte) iter.Seq[[]byte] { return split(args) }

// ParseOverride reads the arguments of an override line: the override's duration, then each
// collector and how often to sample it during that time. ParseOverride checks everything before it
// returns, so ranging over items cannot fail. The names alias args. The error is ErrBadDuration,
// ErrBadOverride or ErrBadName.
func ParseOverride(args []byte) (d time.Duration, items iter.Seq2[[]byte, time.Duration], err error) {
	seconds, list, _ := bytes.Cut(trimSpaces(args), space)
	if d, err = parseSeconds(seconds); err != nil {
		return 0, nil, err
	}
	n := 0
	for item := range split(list) {
		name, interval, ok := cutLast(item)
		if !ok {
			return 0, nil, ErrBadOverride
		}
		if !ValidName(alias(name)) {
			return 0, nil, ErrBadName
		}
		if _, err := parseSeconds(interval); err != nil {
			return 0, nil, err
		}
		n++
	}
	if n == 0 {
		return 0, nil, ErrBadOverride
	}
	return d, func(yield func([]byte, time.Duration) bool) {
		for item := range split(list) {
			name, interval, _ := cutLast(item)
			every, err := parseSeconds(interval)
			if err == nil && !yield(name, every) {
				return
			}
		}
	}, nil
}

// ParseBeat reads the argument of a beat line. The error is ErrBadDuration.
func ParseBeat(args []byte) (time.Duration, error) { return parseSeconds(trimSpaces(args)) }

// ParseEvery reads the argument of an every line. The error is ErrBadDuration.
func ParseEvery(args []byte) (time.Duration, error) { return ParseBeat(args) }

// parseSeconds reads a positive number of seconds; fractions are allowed.
func parseSeconds(b []byte) (time.Duration, error) {
	s, err := parseValue(b)
	if err != nil || s <= 0 || s > MaxDuration.Seconds() {
		return 0, ErrBadDuration
	}
	d := time.Duration(math.Round(s * float64(time.Second)))
	if d <= 0 {
		return 0, ErrBadDuration
	}
	return d, nil
}

var colon = []byte{':'}

func cutLast(item []byte) (before, after []byte, ok bool) {
	i := bytes.LastIndexByte(item, ':')
	if i < 0 {
		return nil, nil, false
	}
	return trimSpaces(item[:i]), trimSpaces(item[i+1:]), true
}

// split yields the items between the commas of list, without the spaces around them. Empty items
// are left out.
func split(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := list; len(rest) > 0; {
			item := rest
			if i := bytes.IndexByte(rest, ','); i >= 0 {
				item, rest = rest[:i], rest[i+1:]
			} else {
				rest = nil
			}
			if item = trimSpaces(item); len(item) > 0 && !yield(item) {
				return
			}
		}
	}
}

func trimSpaces(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}

// alias returns b as a string without copying it. It is used only to call functions that do not
// keep or return their argument, and only while b does not change: a caller of this package may not
// write to a line while the package parses the line.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
