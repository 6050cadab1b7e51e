package query

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/duration"
)

// ParseWhen reads a point in time, wherever one is asked for: from and to of a replay, start and
// stop of /hourly and /daily. The text is how far back from now (90m, 1d, 1h30m; 0 or now), or a
// date (2026-11-27, today or yesterday: its midnight) with a time of day or without (14:00,
// 14:00:30), or RFC 3339. A text without a zone is in loc.
//
// The time is in UTC. ago reports whether the text says how far back. The error says what may be
// given.
func ParseWhen(text string, now time.Time, loc *time.Location) (t time.Time, ago bool, err error) {
	if text == "0" || strings.EqualFold(text, "now") {
		return now.UTC(), true, nil
	}
	if back, err := duration.Parse(strings.TrimSuffix(text, " ago"), maxBack); err == nil {
		return now.Add(-back).UTC(), true, nil
	}
	plain := strings.ToUpper(text)
	for word, days := range map[string]int{"TODAY": 0, "YESTERDAY": -1} {
		if rest, ok := strings.CutPrefix(plain, word); ok {
			plain = now.In(loc).AddDate(0, 0, days).Format(time.DateOnly) + rest
		}
	}
	// The zone is tried by itself, so that each zone goes with each form.
	if rest, ok := strings.CutSuffix(plain, "UTC"); ok {
		plain = strings.TrimRight(rest, " ") + "Z"
	}
	for _, day := range [...]string{"", "T15:04", "T15:04:05", " 15:04", " 15:04:05"} {
		for _, zone := range [...]string{"", "Z07:00", "Z0700", "Z07", " Z07:00", " Z0700"} {
			if t, err := time.ParseInLocation("2006-1-2"+day+zone, plain, loc); err == nil {
				return t.UTC(), false, nil
			}
		}
	}
	return time.Time{}, false, errors.New(whenHelp(now, loc))
}

// whenHelp says what ParseWhen takes.
func whenHelp(now time.Time, loc *time.Location) string {
	return fmt.Sprintf("use how far back it is, like 90m or 1d (units u ms s m h d w, up to %s), or a time like 2026-11-20, yesterday, "+
		`"2026-11-20 14:00" or 2026-11-20T14:00:00Z; without a zone it is local time (UTC%s)`, ago(maxBack), now.In(loc).Format("-07:00"))
}

// parseBack reads how far back from now a point in time is, def for none. (InfluxQL, and with it
// 0.2, took bare numbers for nanoseconds, which nobody meant.) A stop in the future is now. Without
// loc, the text must say how far back: 0.2 knew nothing else.
func parseBack(name, text string, def time.Duration, now time.Time, loc *time.Location) (time.Duration, error) {
	if text == "" {
		return def, nil
	}
	if _, err := duration.Parse(text, maxBack); err != nil && text != "0" && loc == nil {
		return 0, badRequest("%s %q: %s", name, shorten(text, 40), duration.Help)
	}
	t, _, err := ParseWhen(text, now, loc)
	if err != nil {
		return 0, badRequest("%s %q: %v", name, shorten(text, 40), err)
	}
	switch back := now.Sub(t); {
	case back > maxBack:
		return 0, badRequest("%s is %s, which is too far back: it may be up to %s", name, t.Format(time.RFC3339), ago(maxBack))
	case back < 0 && name == "start":
		return 0, badRequest("start is %s, which is in the future: it is now %s", t.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	default:
		return max(back, 0), nil
	}
}
