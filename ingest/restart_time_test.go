package ingest

import (
	"testing"
	"time"
)

// TestEventTimesAreNotUsedAgain: while the clock is behind a relay's last event, event times grow
// only by nanoseconds. After a kill, the next server knows the last stored event from the registry,
// but not later ones. It must not use their times again, because points with the same time
// overwrite each other.
func TestEventTimesAreNotUsedAgain(t *testing.T) {
	e := &env{Options: Options{PollInterval: time.Minute}, overrides: &overrideStore{}}
	r := newRelay(e, "web1")
	r.collectors.add("cpu", nil)
	ahead := time.Unix(2000, 0).UnixNano()
	r.eventTime(ahead, 1)
	clock := ahead - int64(30*time.Second)
	r.eventTime(clock, 1)
	stored, _ := r.record()
	used := map[int64]bool{}
	for range 10 {
		used[r.eventTime(clock, 3)] = true
	}

	again := new(storedAlive).restore(e, "web1", stored, time.Unix(0, clock))
	for i := range 10 {
		if at := again.eventTime(clock+int64(i), 1); used[at] {
			t.Errorf("event %d after the restart has the time %d, which another has", i, at)
		}
	}
	if d := new(storedAlive).restore(e, "web1", stored, time.Unix(0, clock)).describe(clock); d.LastSeen.UnixNano() != ahead+1 {
		t.Errorf("LastSeen %v after the restart, want that of the last event that is known, %v", d.LastSeen, time.Unix(0, ahead+1))
	}
}
