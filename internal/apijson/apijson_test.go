package apijson

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for _, d := range []time.Duration{0, time.Second, 1500 * time.Millisecond, 7 * 24 * time.Hour} {
		b, err := json.Marshal(Seconds(d))
		var back Seconds
		if err := errors.Join(err, json.Unmarshal(b, &back)); err != nil || time.Duration(back) != d {
			t.Errorf("%s: %s %v", d, b, err)
		}
	}
}

func TestTime(t *testing.T) {
	if got := Time(time.Time{}); !got.IsZero() {
		t.Error(got)
	}
	at := time.Date(2026, 11, 23, 12, 20, 30, 999, time.FixedZone("", 7200))
	if got := Time(at).Format(time.RFC3339Nano); got != "2026-11-23T10:20:30Z" {
		t.Error(got)
	}
}

func TestMarshal(t *testing.T) {
	if b, err := Marshal("<a&b>"); err != nil || string(b) != `"<a&b>"` {
		t.Errorf("%s %v", b, err)
	}
	if _, err := Marshal(func() {}); err == nil {
		t.Error("a func was taken")
	}
}
