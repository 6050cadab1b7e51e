package kapa

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// try runs a trial over the records of the simulation.
func (s *sim) try(a Alert, from, to time.Time) Trial {
	s.tb.Helper()
	got, err := s.a.Try(s.tb.Context(), TrialRequest{Alert: a, From: from, To: to, Limit: time.Minute})
	if err != nil {
		s.tb.Fatal(err)
	}
	return got
}

// said is what a trial would have posted, as words says it.
func said(t Trial) string {
	var all []string
	for _, p := range t.Posts {
		all = append(all, p.Message)
	}
	return strings.Join(all, "; ")
}

// asPosted is a post of the live evaluator as a trial lists it.
func asPosted(a Alert, m message) TrialPost {
	p := TrialPost{Time: m.Time, Name: m.ID, Tags: m.Data.Series[0].Tags, Level: m.Level, PreviousLevel: m.PreviousLevel, Message: m.Message}
	if m.Level != "OK" {
		p.Time = m.Time.Add(time.Duration(a.Duration)) // the message has the window's start
	}
	if value, ok := m.Data.Series[0].Values[0][1].(float64); ok {
		p.Value = &value
	}
	return p
}

// A trial over events lists what the live evaluator posted on the same events: for each kind of
// alert, over hours of random readings, silences, relays that are forgotten and collectors that are
// removed.
func TestTrialPostsWhatWasPosted(t *testing.T) {
	recovery := Number(60)
	for name, alert := range map[string]Alert{
		"plain":   {Metric: "cpu_used", Threshold: 75, Duration: minute},
		"recover": {Metric: "cpu_used", Threshold: 80, Duration: minute, Recover: &recovery, Level: Warn},
		"second":  {Metric: "cpu_used", Threshold: 80, Duration: 7 * second, Every: 3 * second, Tags: map[string]string{"host": "web1"}},
		"groups":  {Metric: "cpu_used", Threshold: 80, Duration: minute, By: []string{"host"}},
		"tags":    {Metric: "cpu_used", Threshold: 65, Operator: Less, Duration: minute, By: []string{"host", "rack"}, Tags: map[string]string{"service": "shop"}, Every: 10 * second},
		"deadman": {Metric: "cpu_used", Threshold: 99, Deadman: 2 * minute},
		"racks":   {Metric: "cpu_used", Threshold: 95, Deadman: 2 * minute, By: []string{"rack"}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				random := rand.New(rand.NewPCG(seed, 7))
				alert.Post = "http://127.0.0.1/"
				s := newSim(t)
				s.create(alert)
				from := s.now
				var silent [4]int
				s.run(2*time.Hour, func() {
					for i := range silent {
						relay := fmt.Sprint("web", i)
						switch {
						case silent[i] > 0:
							silent[i]--
						case random.IntN(600) == 0:
							silent[i] = random.IntN(500)
							kind := []codec.RelayEventKind{codec.RelayRemoved, codec.RelayForgotten, codec.RelayDisconnected}[random.IntN(3)]
							s.records = append(s.records, journal.Record{Seq: uint64(len(s.records) + 1),
								Relay: &codec.RelayEvent{Relay: relay, Time: s.now.UnixNano(), Kind: kind, Collector: "c"}})
						case random.IntN(5) == 0:
							s.send(relay, "cpu_used", wave(i*60+int(s.now.Unix()%100_000))+random.Float64(), "rack:"+fmt.Sprint(i%2), "service:shop")
							s.send(relay, "other", 100)
						}
					}
				})
				got := s.try(alert, from, s.now)
				want := []TrialPost{}
				for _, m := range s.posts() {
					want = append(want, asPosted(alert.withDefaults(), m))
				}
				if len(want) < 4 {
					t.Errorf("the test says nothing: %s", words(s.posts()))
				}
				for i := range got.Posts {
					got.Posts[i].Silent = nil // the message names them
				}
				if !reflect.DeepEqual(got.Posts, want) {
					t.Errorf("seed %d: the trial posts\n%s\nand posted was\n%s\n%+v", seed, said(got), words(s.posts()), got)
				}
				if got.Matched == 0 || got.Matched >= got.Readings || got.Stopped != "" || got.Reached.Before(s.now.Add(-time.Minute)) {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// The first mean of a trial is over the readings before it began, and what fires then is posted.
func TestTrialBeginsInTheMiddle(t *testing.T) {
	s := newSim(t)
	s.run(10*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	from := s.now
	s.run(30*time.Second, func() { s.send("web1", "cpu_used", 10) })
	s.run(2*time.Minute, nil)
	got := s.try(quick(), from, s.now)
	if want := "[web1] cpu_used is OK value:50"; said(s.try(quick(), from.Add(-time.Minute), s.now)) != "[web1] cpu_used is CRITICAL value:90; "+want {
		t.Errorf("from a minute before: %+v", s.try(quick(), from.Add(-time.Minute), s.now))
	}
	if len(got.Posts) != 0 || got.Events != 90 || got.Matched != 90 { // the mean of a minute is 50 at the first moment
		t.Errorf("%+v", got)
	}
	if posts := s.posts(); len(posts) != 0 {
		t.Errorf("posted was %s", words(posts))
	}
	if list, err := s.a.List(); err != nil || len(list) != 0 {
		t.Errorf("there are alerts: %+v, %v", list, err)
	}
}

// A trial does not go beyond To, whatever comes after it.
func TestTrialEnds(t *testing.T) {
	s := newSim(t)
	from := s.now
	s.run(10*time.Minute, func() { s.send("web1", "cpu_used", 10) })
	to := s.now
	s.run(10*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	if got := s.try(quick(), from, to); len(got.Posts) != 0 || got.Events != 600 || !got.Reached.Equal(to.Add(-30*time.Second)) {
		t.Errorf("%+v", got)
	}
	if got := s.try(quick(), from, s.now); said(got) != "[web1] cpu_used is CRITICAL value:90" || got.Firing != 1 || got.Groups != 1 {
		t.Errorf("%+v", got)
	}
}

// A trial with more posts than it may list, or more groups than it has room for, says so.
func TestTrialBounds(t *testing.T) {
	s := newSim(t)
	from := s.now
	a := Alert{Metric: "cpu_used", Threshold: 80, Duration: second, Every: second, Post: "http://127.0.0.1/"}
	i := 0
	s.run(30*time.Minute, func() { i++; s.send("web1", "cpu_used", float64(i%2*100)) })
	got := s.try(a, from, s.now)
	if len(got.Posts) != maxTrialPosts || got.Stopped != "there are more than 1000 posts" || !got.Reached.Before(from.Add(20*time.Minute)) {
		t.Errorf("%d posts, %q, reached %v", len(got.Posts), got.Stopped, got.Reached)
	}
	if got := s.try(a, got.Reached, s.now); len(got.Posts) < 700 || got.Stopped != "" { // it can go on from there
		t.Errorf("the rest: %d posts, %q", len(got.Posts), got.Stopped)
	}
	from = s.now
	for n := range maxGroups + 10 {
		s.send(fmt.Sprint("web", n), "cpu_used", 10)
	}
	s.now = s.now.Add(time.Minute)
	a.By = []string{"host"}
	got = s.try(a, from, s.now)
	if got.Matched != maxGroups+11 || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "more groups at a time than a test has room for") {
		t.Errorf("%+v", got)
	}
}

// pastWith is a journal whose Range a test replaces.
type pastWith struct {
	*sim
	state journal.State
	visit func(ctx context.Context, visit func([]journal.Record, *journal.GapError) error) error
}

func (p pastWith) State(context.Context) (journal.State, error) { return p.state, nil }
func (p pastWith) Range(ctx context.Context, _ journal.Span, visit func([]journal.Record, *journal.GapError) error) error {
	return p.visit(ctx, visit)
}

// A trial that takes too long says how far it came. One that nobody waits for ends, and so does one
// whose journal fails.
func TestTrialEndsEarly(t *testing.T) {
	s := newSim(t)
	from := s.now
	s.run(10*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	s.a.past = pastWith{sim: s, visit: func(ctx context.Context, visit func([]journal.Record, *journal.GapError) error) error {
		if err := visit(s.records[:300], nil); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	q := TrialRequest{Alert: quick(), From: from, To: s.now, Limit: 200 * time.Millisecond}
	got, err := s.a.Try(t.Context(), q)
	if err != nil || got.Stopped != "it took longer than 200ms" || said(got) != "[web1] cpu_used is CRITICAL value:90" || got.Events != 300 {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	q.Limit = time.Hour
	time.AfterFunc(10*time.Millisecond, cancel)
	if got, err := s.a.Try(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %+v, %v", got, err)
	}
	broken := errors.New("no journal")
	s.a.past = pastWith{sim: s, visit: func(context.Context, func([]journal.Record, *journal.GapError) error) error { return broken }}
	if got, err := s.a.Try(t.Context(), q); !errors.Is(err, broken) {
		t.Errorf("broken: %+v, %v", got, err)
	}
	q.Alert.Metric = ""
	var field *FieldError
	if _, err := s.a.Try(t.Context(), q); !errors.As(err, &field) {
		t.Errorf("no alert: %v", err)
	}
}

// What the journal does not have is reported, and so is a time of which it has nothing.
func TestTrialReportsWhatIsMissing(t *testing.T) {
	s := newSim(t)
	begin := s.now
	s.run(5*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	s.now = s.now.Add(time.Hour)
	s.run(5*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	s.a.past = pastWith{sim: s, state: journal.State{FirstSeq: 1, LastSeq: 600, FirstTime: begin}, visit: func(_ context.Context, visit func([]journal.Record, *journal.GapError) error) error {
		return errors.Join(visit(s.records[:100], nil), visit(nil, &journal.GapError{From: 101, To: 200, Reason: journal.GapLost}),
			visit([]journal.Record{{Seq: 201, Err: errors.New("damaged")}}, nil), visit(s.records[201:], nil))
	}}
	a := quick()
	a.Deadman = 10 * minute
	got := s.try(a, begin.Add(-time.Hour), s.now)
	want := []TrialGap{{From: 101, To: 200, Count: 100, Reason: journal.GapLost, After: begin.Add(99 * time.Second)}}
	if got.Lost != 100 || !reflect.DeepEqual(got.Gaps, want) || !got.JournalFrom.Equal(begin) || got.Events != 499 {
		t.Errorf("%+v", got)
	}
	if len(got.Notes) != 2 || got.Notes[0] != "the journal begins at 2026-11-23T12:00:00Z: what was before is not in it" ||
		got.Notes[1] != "no relay sent anything from 2026-11-23T12:04:59Z to 2026-11-23T13:05:00Z: if Pulse did not run then, the deadman would not have posted that" {
		t.Errorf("%q", got.Notes)
	}
	if want := "[web1] cpu_used is CRITICAL value:90; [web1] cpu_used is CRITICAL value:none for 10m from web1"; !strings.HasPrefix(said(got), "[web1] cpu_used is CRITICAL value:90") {
		t.Errorf("%s, want %s", said(got), want)
	}
	s.a.past = s
	if got := s.try(a, begin.Add(-48*time.Hour), begin.Add(-24*time.Hour)); len(got.Posts) != 0 || got.Events != 0 || !got.Reached.Equal(begin.Add(-24*time.Hour-30*time.Second)) {
		t.Errorf("before the journal: %+v", got)
	}
}

// Where the clock was set back, a trial goes on at the moments of the clock.
func TestTrialClockSetBack(t *testing.T) {
	s := newSim(t)
	from := s.now
	s.create(quick())
	s.run(10*time.Minute, func() { s.send("web1", "cpu_used", 10) })
	s.now = s.now.Add(-5 * time.Minute)
	s.run(7*time.Minute, func() { s.send("web1", "cpu_used", 90) })
	live := words(s.posts())
	if got := s.try(quick(), from, s.now); said(got) != live || live == "" {
		t.Errorf("%s, posted was %s", said(got), live)
	}
}

// A body is read as that of an alert, with from and to beside.
func TestDecodeTrial(t *testing.T) {
	a, from, to, err := DecodeTrial([]byte(`{"id":"x","post":"https://hooks.example.org/***","status":{},"metric":"cpu_used","threshold":"80","deadman":"10m","from":"2d","to":"1h"}`))
	if err != nil || from != "2d" || to != "1h" || a.ID != "" || a.Post != "" || a.Threshold != 80 || a.Duration != 5*minute || len(a.By) != 1 {
		t.Errorf("%+v, %q, %q, %v", a, from, to, err)
	}
	for body, want := range map[string]string{
		`{`:                                     "one JSON object",
		`{"metric":"a","threshold":1}`:          "from must be given",
		`{"metric":"a","from":"1h"}`:            "threshold must be given",
		`{"threshold":1,"from":"1h"}`:           "metric must be given",
		`{"metric":"a","threshold":1,"from":3}`: "from must be a text",
		`{"metric":"a","threshold":1,"from":"1h","since":"1h"}`:            `and a test of one from and to`,
		`{"metric":"a","threshold":1,"from":"1h","from":"2h"}`:             "from must be given once",
		`{"metric":"a","threshold":1,"from":"1h","duration":"9h"}`:         "duration must be",
		`{"metric":"a","threshold":1,"from":"1h","deadman":"1s"}`:          "deadman must be",
		`{"metric":"a","threshold":1,"from":"1h","post":{},"status":3}`:    "",
		`{"metric":"a","threshold":1,"from":"1h","to":null,"by":["host"]}`: "",
	} {
		_, _, _, err := DecodeTrial([]byte(body))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
