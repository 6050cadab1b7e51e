package influx

import (
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// Tag is one key and value of a series.
type Tag struct {
	Key, Value string
}

// TagSet is a set of tags in the form in which InfluxDB keeps it. It is made once and shared by all
// series that have it. It is safe for concurrent use, because nothing ever changes it.
type TagSet struct {
	tags []Tag
	key  string // escaped for the line protocol: ,k=v,k=v

	native atomic.Value // see Native
}

// NewTagSet makes a set of tags. It replaces the characters that the line protocol cannot carry
// (see Clean), and sorts the tags by key. It drops the tags that InfluxDB does not keep: those
// without a key or a value, those named time, and all but the first with the same key. The caller's
// slice stays as it is.
func NewTagSet(tags ...Tag) *TagSet {
	set := &TagSet{tags: make([]Tag, 0, len(tags))}
	for _, t := range tags {
		t = Tag{Clean(t.Key), Clean(t.Value)}
		if t.Key == "" || t.Value == "" || t.Key == timeKey {
			continue
		}
		set.tags = append(set.tags, t)
	}
	slices.SortStableFunc(set.tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	set.tags = slices.CompactFunc(set.tags, func(a, b Tag) bool { return a.Key == b.Key })

	var key []byte
	for _, t := range set.tags {
		key = append(key, ',')
		key = appendTag(key, t.Key)
		key = append(key, '=')
		key = appendTag(key, t.Value)
	}
	set.key = string(key)
	return set
}

// Tags returns the tags as they are stored, sorted by key. The slice belongs to the set.
func (t *TagSet) Tags() []Tag { return t.tags }

// Native returns the form in which a store keeps the tags. build makes it on the first call, and
// may be called more than once if several goroutines call first. All callers must build the same
// type.
func (t *TagSet) Native(build func([]Tag) any) any {
	if v := t.native.Load(); v != nil {
		return v
	}
	v := build(t.tags)
	t.native.Store(v)
	return v
}

// Series is a measurement and its tags, in the form in which InfluxDB keeps them. It is a small
// value, made for each point. Its key is only made when the point is written.
type Series struct {
	measurement string
	set         *TagSet
}

// NewSeries makes a series of the measurement and a set of the tags.
func NewSeries(measurement string, tags ...Tag) Series {
	return NewTagSet(tags...).Series(measurement)
}

// Series returns the series of the measurement, in which it replaces the characters that the line
// protocol cannot carry. An empty measurement gives a series whose points every store rejects.
func (t *TagSet) Series(measurement string) Series {
	return Series{CleanMeasurement(measurement), t}
}

// Measurement returns the measurement's name as it is stored.
func (s Series) Measurement() string { return s.measurement }

// TagSet returns the tags as a set.
func (s Series) TagSet() *TagSet { return s.set }

// Tags returns the tags as they are stored, sorted by key.
func (s Series) Tags() []Tag { return s.set.tags }

// AppendKey appends the key to dst, escaped for the line protocol: measurement,k=v,k=v. It is equal
// for equal series only.
func (s Series) AppendKey(dst []byte) []byte {
	return append(appendEscaped(dst, s.measurement, ", "), s.set.key...)
}

// timeKey names the one column that can be neither a tag nor a field.
const timeKey = "time"

// Clean returns s with each character that the line protocol cannot carry replaced by a look-alike,
// so that two names never become equal by losing a character. It replaces:
//
//   - a control character by its Unicode picture
//   - bytes that are not UTF-8 by U+FFFD
//   - by U+FF3C a backslash that would escape a comma, an equals sign, a space, a quote or the end
//   - by U+FF03 the # of "#!~", with which InfluxDB joins a series and a field on disk
//
// Tag keys, tag values and field keys are stored like this, so a filter must be cleaned like them.
func Clean(s string) string {
	if !needsCleaning(s) {
		return s
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	var b strings.Builder
	for i, r := range s {
		switch {
		case r < 0x20:
			b.WriteRune(0x2400 + r)
		case r == 0x7f:
			b.WriteRune(0x2421)
		case r == '\\' && escapesNext(s, i):
			b.WriteRune(0xff3c)
		case r == '#' && strings.HasPrefix(s[i:], "#!~"):
			b.WriteRune(0xff03)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// CleanMeasurement is Clean for a measurement. It also replaces a leading #, which would make the
// line a comment, stored nowhere and without an error.
func CleanMeasurement(s string) string {
	if !needsCleaning(s) {
		return s
	}
	s = Clean(s)
	if strings.HasPrefix(s, "#") {
		return "\uff03" + s[1:]
	}
	return s
}

func needsCleaning(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			continue // most are
		}
		if c < 0x20 || c == '\\' || c == '#' || c >= 0x7f {
			return true // perhaps: Clean finds out
		}
	}
	return false
}

// escapesNext reports whether the backslash at s[i] would escape the character after it. A run of
// backslashes counts as one, because the parser pairs them.
func escapesNext(s string, i int) bool {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			continue
		case ',', '=', ' ', '"':
			return true
		default:
			return false
		}
	}
	return true
}
