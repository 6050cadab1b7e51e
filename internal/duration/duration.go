// Package duration reads and writes durations as people write them in requests and flags: 90s, 5m,
// 1d12h, 2w.
package duration

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Day and Week are the lengths of the units d and w.
const (
	Day  = 24 * time.Hour
	Week = 7 * Day
)

// The errors of Parse, which returns them unwrapped.
var (
	ErrForm    = errors.New("not a duration")
	ErrTooLong = errors.New("too long a duration")
)

type unit struct {
	name   string
	length time.Duration
}

// units lists each unit before any unit whose name is a prefix of its name.
func units() []unit {
	return []unit{
		{"ms", time.Millisecond}, {"u", time.Microsecond}, {"µ", time.Microsecond}, {"s", time.Second},
		{"m", time.Minute}, {"h", time.Hour}, {"d", Day}, {"w", Week},
	}
}

// Parse reads whole numbers, each with its unit: u (or µ), ms, s, m, h, d or w. "0s" is a duration,
// "0" is not. The result must not exceed most. The error is ErrForm or ErrTooLong.
func Parse(text string, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, ErrForm
	}
	var sum time.Duration
	for text != "" {
		digits := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 1 {
			return 0, ErrForm
		}
		n, err := strconv.ParseUint(text[:digits], 10, 63)
		u, rest, ok := cutUnit(text[digits:])
		switch {
		case !ok:
			return 0, ErrForm
		case err != nil || n > uint64((most-sum)/u.length):
			return 0, ErrTooLong
		}
		sum += time.Duration(n) * u.length
		text = rest
	}
	return sum, nil
}

func cutUnit(text string) (u unit, rest string, ok bool) {
	for _, u := range units() {
		if rest, ok := strings.CutPrefix(text, u.name); ok {
			return u, rest, true
		}
	}
	return unit{}, text, false
}

// Text writes a duration without trailing units that are zero: 5m, where time.Duration writes 5m0s.
// Parse can read the text if d is whole milliseconds.
func Text(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Whole reports whether d is a whole number of seconds between low and high, both included.
func Whole(d, low, high time.Duration) bool { return d >= low && d <= high && d%time.Second == 0 }

// Given is a duration in a request. In JSON it is a number of whole seconds, or a text that Parse
// reads.
type Given time.Duration

// MaxGiven is the longest duration that a request may give: ten years.
const MaxGiven = 3660 * Day

// Help says which texts Parse reads, up to MaxGiven. It ends an error message.
const Help = "use a number and a unit, u ms s m h d or w, like 90m or 1d, up to 3660d"

// GivenError says why a value in a request is not a duration.
type GivenError struct{ text string }

func (e *GivenError) Error() string { return e.text }

// UnmarshalJSON reads both forms. The error is a *GivenError.
func (g *Given) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil && text != "" {
		d, err := Parse(text, MaxGiven)
		if err != nil {
			return &GivenError{fmt.Sprintf("%q is not a time: %s", text, Help)}
		}
		*g = Given(d)
		return nil
	}
	var n int64
	if err := json.Unmarshal(b, &n); err != nil || n < 0 || n > int64(MaxGiven/time.Second) {
		return &GivenError{fmt.Sprintf(`%s is not a time: use whole seconds, or text like "90s"`, b)}
	}
	*g = Given(time.Duration(n) * time.Second)
	return nil
}
