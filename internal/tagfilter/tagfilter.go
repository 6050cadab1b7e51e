// Package tagfilter says which tags the queries of the API can filter by. Whoever makes tags of
// what people write asks it, so that no tag is kept that nobody can ask for.
package tagfilter

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a filter, in bytes.
const (
	MaxKey   = 256
	MaxValue = 1024
)

// parameters are the names that have a meaning of their own in queries, beside those of Reserved.
var parameters = []string{
	"verb", "start", "stop", "backfill", "step", "by", "ticket", "X-AUTH-TOKEN", "x-auth-token", "last-event-id",
}

// Check returns nil if every route that filters by tags can filter by a tag key with that value.
// Else it says why not: the key is a parameter of the routes, or has a meaning of its own in
// InfluxDB, or the key or the value is no text.
func Check(key, value string) error {
	for _, name := range parameters {
		if key == name {
			return fmt.Errorf("%s is a parameter of queries", key)
		}
	}
	switch {
	case Reserved(key):
		return fmt.Errorf("InfluxDB reserves the name %s", key)
	case key == "":
		return errors.New("the tag has no name")
	case len(key) > MaxKey:
		return fmt.Errorf("the name of the tag has %d bytes: at most %d are allowed", len(key), MaxKey)
	case !Printable(key):
		return errors.New("the name of the tag holds control characters or is not UTF-8")
	case len(value) > MaxValue || !Printable(value):
		return errors.New("its value is too long, holds control characters or is not UTF-8")
	}
	return nil
}

// Reserved reports whether an identifier has a meaning of its own in InfluxQL, quoted or not: the
// time, which would widen or empty the range that was asked for, the current time, or parts of the
// index.
func Reserved(name string) bool {
	switch strings.ToLower(name) {
	case "time", "now()", "_name", "_tagkey", "_tagvalue", "_serieskey", "_fieldkey":
		return true
	}
	return false
}

// Printable reports whether s is UTF-8 without control characters. It refuses U+FEFF too, which a
// reader may take for a byte order mark and drop.
func Printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\uFEFF'
	})
}
