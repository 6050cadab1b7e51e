package retry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPause(t *testing.T) {
	b := Backoff{First: 250 * time.Millisecond, Last: 30 * time.Second}
	for n, want := range map[int]time.Duration{0: b.First, 1: b.First, 2: 2 * b.First, 7: 16 * time.Second, 8: b.Last, 40: b.Last, 1 << 40: b.Last} {
		for range 100 {
			if d := b.Pause(n); d > want || d < want*4/5 {
				t.Errorf("after %d failures: %v, want %v less a fifth at most", n, d, want)
			}
		}
	}
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Failures
		if n, logged := f.End(); n != 0 || logged {
			t.Error(n, logged)
		}
		logs := 0
		for range 150 { // a second each
			f.Add()
			if f.MayLog() {
				f.Logged()
				logs++
			}
			time.Sleep(time.Second)
		}
		if n, logged := f.End(); n != 150 || !logged || logs != 3 {
			t.Errorf("%d failures, logged %v, %d times", n, logged, logs)
		}
		f.Add()
		if f.MayLog() {
			t.Error("it is logged again within the minute")
		}
		if n, logged := f.End(); n != 1 || logged {
			t.Error(n, logged)
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !Sleep(ctx, time.Millisecond) || Sleep(ctx, time.Hour) {
			t.Error("it does not wait as long as it is told")
		}
	})
}
