package duration

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1d12h": 36 * time.Hour, "2w": 14 * Day, "5ms": 5 * time.Millisecond,
		"7u": 7 * time.Microsecond, "7µ": 7 * time.Microsecond, "0s": 0, "3660d": MaxGiven,
	} {
		if got, err := Parse(text, MaxGiven); err != nil || got != want {
			t.Errorf("%q: %s %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		"": ErrForm, "0": ErrForm, "5": ErrForm, "s": ErrForm, "-5s": ErrForm, "+5s": ErrForm, "5 s": ErrForm, "1.5h": ErrForm, "5sec": ErrForm,
		"5S": ErrForm, "1y": ErrForm, "3661d": ErrTooLong, "3660d1u": ErrTooLong, "99999999999999999999s": ErrTooLong, "9223372036854775807w": ErrTooLong,
	} {
		if got, err := Parse(text, MaxGiven); !errors.Is(err, want) {
			t.Errorf("%q: %s %v, want %v", text, got, err, want)
		}
	}
}

func TestText(t *testing.T) {
	for want, d := range map[string]time.Duration{"30s": 30 * time.Second, "5m": 5 * time.Minute, "1h": time.Hour, "24h": Day, "1h30m": 90 * time.Minute,
		"1m30s": 90 * time.Second, "10m": 10 * time.Minute, "0s": 0, "1.5s": 1500 * time.Millisecond} {
		if got := Text(d); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestGiven(t *testing.T) {
	for text, want := range map[string]time.Duration{`5`: 5 * time.Second, `0`: 0, `"90s"`: 90 * time.Second, `"1w"`: Week} {
		var g Given
		if err := json.Unmarshal([]byte(text), &g); err != nil || time.Duration(g) != want {
			t.Errorf("%s: %s %v", text, time.Duration(g), err)
		}
	}
	for _, text := range []string{`1.5`, `-1`, `""`, `"5"`, `{}`, `[]`, `true`, `316224001`, `"3661d"`} {
		var g Given
		var wrong *GivenError
		if err := json.Unmarshal([]byte(text), &g); !errors.As(err, &wrong) {
			t.Errorf("%s: %s %v", text, time.Duration(g), err)
		}
	}
}
