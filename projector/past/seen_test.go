package past

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func at(minute int) int64 { return int64(minute) * int64(time.Minute) }

// The holes between the stretches are the times without events, in whatever order the stretches
// come.
func TestSeen(t *testing.T) {
	var s Seen
	for _, x := range []Stretch{{at(10), at(10)}, {at(11), at(11)}, {at(13), at(14)}, {at(30), at(31)}, {at(20), at(21)}, {at(12), at(12)}, {at(18), at(40)}} {
		s = s.Add(x, 2*time.Minute)
	}
	if want := (Seen{{at(10), at(14)}, {at(18), at(40)}}); !reflect.DeepEqual(s, want) {
		t.Errorf("seen are %v, want %v", s, want)
	}
	holes := s.holes(time.Unix(0, at(5)), time.Unix(0, at(45)), 2*time.Minute)
	if want := []Stretch{{at(5), at(10)}, {at(14), at(18)}, {at(40), at(45)}}; !reflect.DeepEqual(holes, want) {
		t.Errorf("holes are %v, want %v", holes, want)
	}
	if holes := s.holes(time.Unix(0, at(11)), time.Unix(0, at(42)), 4*time.Minute); holes != nil {
		t.Errorf("holes are %v, want none", holes)
	}
}

// For random events in a random order the holes are the same as for all events in order.
func TestSeenEqualsASort(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		quiet := time.Duration(1 + r.IntN(20))
		var s Seen
		events := make([]int64, r.IntN(100))
		for i := range events {
			events[i] = r.Int64N(1000)
			s = s.Add(Stretch{events[i], events[i]}, quiet)
		}
		slices.Sort(events)
		var want []Stretch
		last := int64(100)
		for _, e := range append(events, 900) {
			if e = min(e, 900); e-last > int64(quiet) {
				want = append(want, Stretch{last, e})
			}
			last = max(last, e)
		}
		if got := s.holes(time.Unix(0, 100), time.Unix(0, 900), quiet); !slices.Equal(got, want) {
			t.Fatalf("quiet %d, events %v: holes %v, want %v", quiet, events, got, want)
		}
	}
}

func TestSeenIsBounded(t *testing.T) {
	var s Seen
	for i := range 10 * maxSeen {
		s = s.Add(Stretch{at(10*i + i%7), at(10*i + i%7)}, time.Minute)
	}
	if len(s) != maxSeen || s[0].From != 0 {
		t.Errorf("%d stretches", len(s))
	}
	notes := s.notes(time.Unix(0, 0), time.Unix(0, s[len(s)-1].To), time.Minute)
	if len(notes) != maxHoles+1 || !strings.HasPrefix(notes[maxHoles], fmt.Sprintf("nor in %d shorter pieces, ", maxSeen-1-maxHoles)) {
		t.Errorf("notes are %q", notes)
	}
}

// A replay of a range that the journal does not have says so. If the journal has a part of the
// range, the replay names the missing part.
func TestAReplayOfNothingSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		seen Seen
		to   time.Duration // after the start of the range; 0: now, an hour after it
		want []string
	}{
		"nothing":    {Seen{}, 0, []string{"the journal has nothing from 2000-01-01T00:00:00Z to 2000-01-01T01:00:00Z"}},
		"all":        {nil, 0, nil},
		"the future": {nil, 24 * time.Hour, nil},
		"a hole in it": {Seen{{hour(0), hour(10)}, {hour(20), hour(60)}}, 0,
			[]string{"the journal has nothing from 2000-01-01T00:10:00Z to 2000-01-01T00:20:00Z"}},
		"a piece of it": {Seen{{hour(30), hour(40)}}, 0,
			[]string{"the journal has nothing from 2000-01-01T00:00:00Z to 2000-01-01T00:30:00Z", "the journal has nothing from 2000-01-01T00:40:00Z to 2000-01-01T01:00:00Z"}},
		"polls": {Seen{{hour(1), hour(1)}, {hour(3), hour(59)}}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := &fakeTarget{name: "raw", steps: 2, seen: test.seen}
				from := time.Now()
				time.Sleep(time.Hour)
				q := Request{Projections: []string{"raw"}, From: from}
				if test.to > 0 {
					q.To = from.Add(test.to)
				}
				j := start(t, newQueue(t, Options{Targets: []Target{target}}))
				job, err := j.Create(q)
				if err != nil {
					t.Fatal(err)
				}
				job = awaitState(t, j, job.ID, StateDone)
				if want := append([]string{"planned", "stepped"}, test.want...); !slices.Equal(job.Parts[0].Notes, want) {
					t.Errorf("notes are %q, want %q", job.Parts[0].Notes, want)
				}
			})
		})
	}
}

// hour returns the time of a minute, in ns, in the hour in which a synctest bubble begins.
func hour(minute int) int64 {
	return time.Date(2000, 1, 1, 0, minute, 0, 0, time.UTC).UnixNano()
}
