package query

import (
	"fmt"
	"github.com/nanopack/pulse/projector/past"
	"strings"
	"testing"
	"time"
)

// Times are accepted in the forms that people write. A time without a zone is local.
func TestParseWhen(t *testing.T) {
	india := time.FixedZone("IST", 5*3600+1800)
	now := time.Date(2026, 11, 27, 20, 30, 0, 0, time.UTC) // 02:00 on the 28th in India
	for text, want := range map[string]string{
		"0":                         "2026-11-27T20:30:00Z",
		"now":                       "2026-11-27T20:30:00Z",
		"90m":                       "2026-11-27T19:00:00Z",
		"1d12h":                     "2026-11-26T08:30:00Z",
		"90m ago":                   "2026-11-27T19:00:00Z",
		"today":                     "2026-11-27T18:30:00Z",
		"yesterday":                 "2026-11-26T18:30:00Z",
		"Yesterday 14:00":           "2026-11-27T08:30:00Z",
		"yesterday 14:00Z":          "2026-11-27T14:00:00Z",
		"2026-11-27":                "2026-11-26T18:30:00Z",
		"2026-1-5":                  "2026-01-04T18:30:00Z",
		"2026-11-27 14:00":          "2026-11-27T08:30:00Z",
		"2026-11-27T14:00":          "2026-11-27T08:30:00Z",
		"2026-11-27 14:00:30.5":     "2026-11-27T08:30:30.5Z",
		"2026-11-27 14:00 UTC":      "2026-11-27T14:00:00Z",
		"2026-11-27UTC":             "2026-11-27T00:00:00Z",
		"2026-11-27Z":               "2026-11-27T00:00:00Z",
		"2026-11-27 14:00 +01:00":   "2026-11-27T13:00:00Z",
		"2026-11-27T14:00:00+0100":  "2026-11-27T13:00:00Z",
		"2026-11-27T14:00:00-03":    "2026-11-27T17:00:00Z",
		"2026-11-27T14:00:00.25Z":   "2026-11-27T14:00:00.25Z",
		"2026-11-27t14:00:00z":      "2026-11-27T14:00:00Z",
		"2026-11-27T14:00:00+05:30": "2026-11-27T08:30:00Z",
	} {
		got, ago, err := ParseWhen(text, now, india)
		relative := strings.HasPrefix(text, "90m") || text == "0" || text == "now" || text == "1d12h"
		if err != nil || got.Format(time.RFC3339Nano) != want || got.Location() != time.UTC || ago != relative {
			t.Errorf("%q is %v (ago: %t), %v; want %s", text, got, ago, err, want)
		}
	}
	for _, text := range []string{"", "-6h", "+6h", "6", "1.5h", "1y", " 1h", "1h ", "1h  ago", "ago", "tomorrow", "yesterdays", "yesterday14:00", "monday", "14:00",
		"2026-11-31", "2026-13-01", "2026-11-27 25:00", "2026-11-27 14", "2026-11-27 14:00 CET", "27.11.2026", "11/27/2026", "2026/11/27", "20261127",
		"2026-11-27 ", "2026-11-27T", "3661d", "1700000000", "2026-11-27 14:00:00 UTC UTC", "2026-11-27 14:00Z UTC"} {
		if got, _, err := ParseWhen(text, now, india); err == nil || !strings.Contains(err.Error(), "local time (UTC+05:30)") || !strings.Contains(err.Error(), "90m") {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

// A midnight that does not exist on a day, or exists twice, is parsed as a time of that day.
func TestParseWhenAtAChangeOfClocks(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 29, 10, 0, 0, 0, berlin)
	for text, want := range map[string]string{
		"today":            "2026-03-28T23:00:00Z",
		"yesterday":        "2026-03-27T23:00:00Z",
		"2026-03-30":       "2026-03-29T22:00:00Z",
		"2026-03-29 01:59": "2026-03-29T00:59:00Z",
		"2026-03-29 03:00": "2026-03-29T01:00:00Z",
	} {
		if got, _, err := ParseWhen(text, now, berlin); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q is %v, %v; want %s", text, got, err, want)
		}
	}
}

// FuzzWhen checks that an accepted text gives a time in UTC, and that the error of a refused text
// says on one line how to write a time.
func FuzzWhen(f *testing.F) {
	for _, text := range []string{"90m", "1d", "0", "yesterday 14:00", "2026-11-27", "2026-11-27T14:00:00+05:30", "2026-11-27 14:00 UTC", "2026-02-30", "todayZ", "now ago"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, _, err := ParseWhen(text, testNow, time.FixedZone("", -3*3600))
		if err != nil && (err.Error() == "" || strings.ContainsAny(err.Error(), "\r\n")) {
			t.Fatalf("%q: %q", text, err)
		}
		if err == nil && at.Location() != time.UTC {
			t.Fatalf("%q is %s", text, at)
		}
	})
}

// The same words mean the same in a replay and in a history request, on a server in another time
// zone.
func TestLocalTimesOfTheServer(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.Location = time.FixedZone("IST", 5*3600+1800) })
	var got past.Request
	w.replays.create = func(r past.Request) (past.Job, error) { got = r; return past.Job{ID: "1"}, nil }
	w.do(t, "POST", "/replay", `{"projection":"all","from":"2026-11-20","to":"yesterday 14:00"}`).contains(t, 202, "")
	if !got.From.Equal(time.Date(2026, 11, 19, 18, 30, 0, 0, time.UTC)) || !got.To.Equal(time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)) {
		t.Errorf("a replay from %s to %s", got.From, got.To)
	}
	w.get(t, "/hourly/cpu?verb=first&start=2026-11-20&stop=yesterday%2014:00")
	from, to := time.Date(2026, 11, 19, 18, 0, 0, 0, time.UTC), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC) // whole hours of UTC
	asked := w.influx.statements()
	if len(asked) != 1 || !strings.Contains(asked[0].text, fmt.Sprintf("time >= %d AND time < %d ", from.UnixNano(), to.UnixNano())) {
		t.Errorf("asked %v", asked)
	}
	w.get(t, "/hourly/cpu?start=2026-11-24").contains(t, 400, "start is 2026-11-23T18:30:00Z, which is in the future")
	w.get(t, "/hourly/cpu?start=1999-01-01").contains(t, 400, "start is 1998-12-31T18:30:00Z, which is too far back")
	w.get(t, "/hourly/cpu?start=2026-11-20&stop=2026-11-19").contains(t, 400, "stop must be less far back than start")
	w.do(t, "POST", "/replay", `{"projection":"all","from":"soon"}`).contains(t, 400, "without a zone it is local time (UTC+05:30)")
}
