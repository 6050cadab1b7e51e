package relaywire

import (
	"bytes"
	"math"
	"strconv"
)

// TakesPast is the word of a takes line by which a server says that it takes records of a spool.
const TakesPast = "past"

// MaxRecall is the greatest number of records that a server asks for at once.
const MaxRecall = 1000

// SpoolID names a spool for as long as it lives. On the wire it is 8 hex digits.
type SpoolID uint32

// String returns the id as it is on the wire.
func (id SpoolID) String() string { return string(appendSpoolID(nil, id)) }

// SpoolState is what a relay says of its spool.
type SpoolState struct {
	ID SpoolID
	// Waiting is how many records wait to be recalled.
	Waiting uint64
	// Dropped is how many readings the spool has ever dropped because it was full.
	Dropped uint64
	// Now is the relay's clock in ms since 1970 UTC.
	Now int64
}

// Record names a record of a spool, and the first one of the run (of took lines) or batch (of past
// lines) that it ends: First <= Seq, and First is at least 1.
type Record struct{ First, Seq uint64 }

// AppendTakes appends a takes line.
func AppendTakes(dst []byte, words ...string) []byte {
	dst = append(dst, "takes "...)
	for i, word := range words {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, word...)
	}
	return append(dst, '\n')
}

// AppendSpool appends a spool line.
func AppendSpool(dst []byte, s SpoolState) []byte {
	dst = appendSpoolID(append(dst, "spool "...), s.ID)
	dst = strconv.AppendUint(append(dst, ' '), s.Waiting, 10)
	dst = strconv.AppendUint(append(dst, ' '), s.Dropped, 10)
	dst = strconv.AppendInt(append(dst, ' '), s.Now, 10)
	return append(dst, '\n')
}

// ParseSpool reads the arguments of a spool line. The error is ErrBadSpool.
func ParseSpool(args []byte) (s SpoolState, err error) {
	id, rest := cutWord(args)
	waiting, rest := cutWord(rest)
	dropped, rest := cutWord(rest)
	now, rest := cutWord(rest)
	at, ok4 := parseCount(now)
	var ok1, ok2, ok3 bool
	s.ID, ok1 = parseSpoolID(id)
	s.Waiting, ok2 = parseCount(waiting)
	s.Dropped, ok3 = parseCount(dropped)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(rest) > 0 {
		return SpoolState{}, ErrBadSpool
	}
	s.Now = int64(at)
	return s, nil
}

// AppendKept appends a kept line: the records of the range are in the journal.
func AppendKept(dst []byte, id SpoolID, r Record) []byte {
	dst = appendSpoolID(append(dst, "kept "...), id)
	dst = strconv.AppendUint(append(dst, ' '), r.First, 10)
	dst = strconv.AppendUint(append(dst, '-'), r.Seq, 10)
	return append(dst, '\n')
}

// ParseKept reads the arguments of a kept line. The error is ErrBadSpool.
func ParseKept(args []byte) (id SpoolID, r Record, err error) {
	word, rest := cutWord(args)
	first, seq, _ := bytes.Cut(trimSpaces(rest), []byte{'-'})
	id, ok := parseSpoolID(word)
	r, valid := parseRecord(first, seq)
	if !ok || !valid {
		return 0, Record{}, ErrBadSpool
	}
	return id, r, nil
}

// AppendRecall appends a recall line: hand over n records, at most MaxRecall.
func AppendRecall(dst []byte, n int) []byte {
	dst = strconv.AppendInt(append(dst, "recall "...), int64(min(max(n, 0), MaxRecall)), 10)
	return append(dst, '\n')
}

// ParseRecall reads the argument of a recall line. More than MaxRecall is MaxRecall. The error is
// ErrBadSpool.
func ParseRecall(args []byte) (int, error) {
	n, ok := parseCount(trimSpaces(args))
	if !ok {
		return 0, ErrBadSpool
	}
	return int(min(n, MaxRecall)), nil
}

// AppendTook appends a took line with as many of the items as fit in one line, and returns how many
// they are: the rest belongs to another record. Values that are not finite are left out; if no item
// is left, nothing is appended.
func AppendTook(dst []byte, r Record, items []GotItem) (line []byte, n int) {
	start := len(dst)
	return appendItems(appendRecord(append(dst, "took "...), r), start, items)
}

// AppendPast appends a past line, as AppendTook appends a took line. ms is when the record was
// taken.
func AppendPast(dst []byte, r Record, ms int64, items []GotItem) (line []byte, n int) {
	start := len(dst)
	dst = appendRecord(append(dst, "past "...), r)
	return appendItems(append(strconv.AppendInt(dst, ms, 10), ' '), start, items)
}

// ParseTook reads the arguments of a took line. Readings reads the items. The error is ErrBadSpool.
func ParseTook(args []byte) (r Record, items []byte, err error) {
	first, rest := cutWord(args)
	seq, items := cutWord(rest)
	r, ok := parseRecord(first, seq)
	if !ok {
		return Record{}, nil, ErrBadSpool
	}
	return r, items, nil
}

// ParsePast reads the arguments of a past line: the record, when it was taken, in ms since 1970 UTC,
// and the items, which Readings reads. The error is ErrBadSpool.
func ParsePast(args []byte) (r Record, ms int64, items []byte, err error) {
	r, rest, err := ParseTook(args)
	at, items := cutWord(rest)
	n, ok := parseCount(at)
	if err != nil || !ok {
		return Record{}, 0, nil, ErrBadSpool
	}
	return r, int64(n), items, nil
}

func appendRecord(dst []byte, r Record) []byte {
	dst = append(strconv.AppendUint(dst, r.First, 10), ' ')
	return append(strconv.AppendUint(dst, r.Seq, 10), ' ')
}

// appendItems appends to a line that begins at start as many items as fit, and ends the line.
func appendItems(dst []byte, start int, items []GotItem) ([]byte, int) {
	begin := len(dst)
	for i := range items {
		it := &items[i]
		if math.IsNaN(it.Value) || math.IsInf(it.Value, 0) {
			continue
		}
		mark := len(dst)
		if mark > begin {
			dst = append(dst, ',')
		}
		if dst = appendItem(dst, it); len(dst)-start >= MaxLine {
			return append(dst[:mark], '\n'), i
		}
	}
	if len(dst) == begin {
		return dst[:start], len(items)
	}
	return append(dst, '\n'), len(items)
}

func appendSpoolID(dst []byte, id SpoolID) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[id>>shift&15])
	}
	return dst
}

func parseSpoolID(b []byte) (SpoolID, bool) {
	id, err := strconv.ParseUint(alias(b), 16, 32)
	return SpoolID(id), err == nil && len(b) == 8
}

func parseRecord(first, seq []byte) (r Record, ok bool) {
	var ok1, ok2 bool
	r.First, ok1 = parseCount(first)
	r.Seq, ok2 = parseCount(seq)
	return r, ok1 && ok2 && 1 <= r.First && r.First <= r.Seq
}

// parseCount reads a whole number that an int64 holds too.
func parseCount(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(alias(b), 10, 63)
	return n, err == nil
}

// cutWord returns the first word of args and what comes after it, without the spaces around either.
func cutWord(args []byte) (word, rest []byte) {
	word, rest, _ = bytes.Cut(trimSpaces(args), space)
	return word, trimSpaces(rest)
}
