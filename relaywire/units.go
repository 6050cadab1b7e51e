package relaywire

import (
	"bytes"
	"iter"
)

// TakesUnits is the word of a takes line by which a server says that it understands units lines.
const TakesUnits = "units"

// MaxUnit is the longest unit, in bytes.
const MaxUnit = 32

// UnitItem is one stat of a units line to be written, and what its values are in: percent, bytes,
// seconds.
type UnitItem struct{ Stat, Unit string }

// ValidUnit reports whether s may be a unit: 1 to MaxUnit bytes of UTF-8 without ',' and control
// characters, neither beginning nor ending in a space.
func ValidUnit(s string) bool { return len(s) <= MaxUnit && ValidTag(s) }

// AppendUnits appends the items as one units line, or as several when they do not fit in one. Items
// without a unit are left out; when no item remains, nothing is appended.
func AppendUnits(dst []byte, items []UnitItem) []byte {
	const verb = "units "
	start := len(dst)
	for _, it := range items {
		if it.Unit == "" {
			continue
		}
		mark := len(dst)
		dst = beginItem(dst, start, verb)
		dst = appendText(dst, it.Stat, reservedInNames, MaxName)
		dst = append(dst, ':')
		dst = appendText(dst, it.Unit, ",", MaxUnit)
		dst, start = breakLine(dst, start, mark, verb)
	}
	return endLine(dst, start)
}

// ParseUnits reads the arguments of a units line: stats and their units. It checks everything before
// it returns, so ranging over the items cannot fail. Both alias args. The error is ErrBadUnits,
// ErrBadName or ErrReserved.
func ParseUnits(args []byte) (iter.Seq2[[]byte, []byte], error) {
	for item := range split(args) {
		stat, unit, ok := cutUnit(item)
		if err := CheckName(alias(stat)); err != nil {
			return nil, err
		}
		if !ok || !ValidUnit(alias(unit)) {
			return nil, ErrBadUnits
		}
	}
	return func(yield func(stat, unit []byte) bool) {
		for item := range split(args) {
			if stat, unit, _ := cutUnit(item); !yield(stat, unit) {
				return
			}
		}
	}, nil
}

func cutUnit(item []byte) (stat, unit []byte, ok bool) {
	stat, unit, ok = bytes.Cut(item, colon)
	return trimSpaces(stat), trimSpaces(unit), ok
}
