package ingest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// polled answers the polls of a relay for d. answer returns how long the relay needs to answer the
// nth poll, counted from 1, and whether it answers at all. Like a relay of 0.2 it handles one poll
// after the other, but it pings meanwhile. polled returns when each poll came and the largest
// number of polls that waited at the same time.
func (p *peer) polled(d time.Duration, answer func(n int) (time.Duration, bool)) (at []time.Duration, pile int) {
	start, end := time.Now(), time.After(d)
	ping := time.NewTicker(20 * time.Second)
	defer ping.Stop()
	var queue []string
	var busy <-chan time.Time
	served := 0
	next := func() {
		for busy == nil && len(queue) > 0 {
			served++
			if takes, ok := answer(served); ok {
				busy = time.After(takes)
				return
			}
			queue = queue[1:]
		}
	}
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Error("the connection was closed")
				return at, pile
			}
			if asked, ok := strings.CutPrefix(line, "get "); ok {
				at = append(at, time.Since(start))
				queue = append(queue, asked)
				pile = max(pile, len(queue))
				next()
			}
		case <-busy:
			p.send("got " + strings.ReplaceAll(queue[0], ",", ":1,") + ":1")
			queue, busy = queue[1:], nil
			next()
		case <-ping.C:
			p.send("ping")
		case <-end:
			return at, pile
		}
	}
}

// TestUnansweredPollDoesNotSlowTheNext: a relay that sometimes has no readings and does not answer
// then is polled as often as a relay that always answers.
func TestUnansweredPollDoesNotSlowTheNext(t *testing.T) {
	for _, every := range []int{2, 3, 6} {
		t.Run(fmt.Sprint("answers every ", every), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *Options) { o.PollInterval = time.Second })
				p := w.connect("web1")
				p.add("sl")
				at, _ := p.polled(32*time.Second+500*time.Millisecond, func(n int) (time.Duration, bool) { return 50 * time.Millisecond, n%every == 0 })
				if len(at) < 32 {
					t.Errorf("polled %d times in 32 s, want once a second: %v", len(at), at)
				}
				settle()
				w.wantMetric(0, "polls_skipped_total")
				r := w.relay("web1")
				answers := w.metric("poll_answer_seconds")
				if uint64(len(at)) != r.Polls || r.Skipped != 0 || r.Polls-r.Unanswered-uint64(answers) > 1 {
					t.Errorf("%d polls came and %v were answered; Relays says %d polls, %d unanswered, %d skipped", len(at), answers, r.Polls, r.Unanswered, r.Skipped)
				}
				w.wantMetric(float64(r.Unanswered), "polls_unanswered_total")
			})
		})
	}
}

// TestSlowRelayIsPolledAsItAnswers: polls do not pile up at a relay that needs longer than the
// interval for each answer, with a variation of a tenth. The relay nearly always has a poll to
// answer.
func TestSlowRelayIsPolledAsItAnswers(t *testing.T) {
	for _, takes := range []time.Duration{900, 1000, 1050, 1300, 1500, 2000, 2500, 3000, 4000, 5000, 7000, 10000, 20000, 50000} {
		takes *= time.Millisecond
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lasts = 60 * time.Minute
				w := newWorld(t, func(o *Options) { o.PollInterval = time.Second })
				p := w.connect("web1")
				p.add("sl")
				rng := rand.New(rand.NewPCG(1, uint64(takes)))
				at, pile := p.polled(lasts, func(int) (time.Duration, bool) { return takes*9/10 + time.Duration(rng.Int64N(int64(takes/5))), true })
				most := int(lasts / max(takes, time.Second))
				if len(at) < most/2 || len(at) > most+60 || pile > 60 {
					t.Errorf("polled %d times, of which it can answer %d; %d polls piled up", len(at), most, pile)
				}
			})
		})
	}
}

// TestStuckRelayGetsFewPolls: a relay that pings but does not answer is polled rarely, and at the
// normal rate again after its next answer.
func TestStuckRelayGetsFewPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = time.Second })
		p := w.connect("web1")
		p.add("sl")
		at, _ := p.polled(time.Hour, func(int) (time.Duration, bool) { return 0, false })
		if len(at) > 200 || len(at) < 100 {
			t.Errorf("polled %d times in an hour without an answer", len(at))
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap > maxPatience+time.Second {
				t.Errorf("the poll at %v came %v after the one before", at[i], gap)
			}
		}
		settle()
		r := w.relay("web1")
		if r.Unanswered != uint64(len(at)-1) || r.Skipped == 0 {
			t.Errorf("%d polls came; Relays says %d unanswered, %d skipped", len(at), r.Unanswered, r.Skipped)
		}
		p.send("got sl:1")
		if at, _ = p.polled(time.Minute, func(int) (time.Duration, bool) { return 0, true }); len(at) < 59 {
			t.Errorf("polled %d times in the minute after it answered", len(at))
		}
	})
}

// TestReturningRelayIsPolledWhenItIsReady: the poll that comes with the welcome is too early for a
// relay that adds its collectors a moment later. These collectors are polled soon, as if they were
// new.
func TestReturningRelayIsPolledWhenItIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 20 { // with different phases
			w := newWorld(t, func(o *Options) { o.PollInterval = 5 * time.Second })
			id := fmt.Sprint("web", i)
			w.gone(id)
			p := w.connect(id)
			p.want("get cpu")
			time.Sleep(500 * time.Millisecond)
			p.add("cpu") // a poll may have come already
			for start := time.Now(); ; {
				line := p.next()
				if d := time.Since(start); line == "get cpu" && d > time.Second {
					t.Errorf("%s was polled %v after its add", id, d)
				}
				if line == "get cpu" {
					break
				}
			}
			p.conn.Close()
			w.stop()
		}
	})
}

// TestReturningRelayIsNotPolledTwice: a relay that answers the poll of its welcome gets no second
// first poll.
func TestReturningRelayIsNotPolledTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.gone("web1")
		p := w.connect("web1")
		p.want("get cpu")
		p.send("add cpu")
		p.want("ok")
		p.send("got cpu:1")
		p.wantSilence(time.Second)
		settle()
		w.wantMetric(2, "polls_total")
	})
}

// TestSkippedPollIsCaughtUp: a collector that is polled once an hour does not lose its poll when
// the answer of a collector that is polled every second is late at that moment.
func TestSkippedPollIsCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = time.Hour })
		p := w.connect("web1")
		p.add("often", "rarely")
		p.want("get often,rarely")
		p.send("got often:1,rarely:1")
		settle()
		mustOverride(t, w, 3*time.Hour, every("often", time.Second))
		asked := time.Now()
		rarely := 0
		// Every answer takes 2.5 s: two of three polls are skipped.
		ping := time.NewTicker(20 * time.Second)
		defer ping.Stop()
		var queue []string
		var busy <-chan time.Time
		for end := time.After(3*time.Hour - time.Minute); ; {
			select {
			case line := <-p.lines:
				if names, ok := strings.CutPrefix(line, "get "); ok {
					queue = append(queue, names)
					if strings.Contains(names, "rarely") {
						rarely++
						if d := time.Since(asked); d > time.Hour+30*time.Second {
							t.Errorf("asked for it %v after the last time", d)
						}
						asked = time.Now()
					}
				}
			case <-busy:
				p.send("got " + strings.ReplaceAll(queue[0], ",", ":1,") + ":1")
				queue, busy = queue[1:], nil
			case <-ping.C:
				p.send("ping")
			case <-end:
				if rarely < 2 || w.relay("web1").Skipped == 0 {
					t.Errorf("asked for it %d times in three hours, %d polls were skipped", rarely, w.relay("web1").Skipped)
				}
				return
			}
			if busy == nil && len(queue) > 0 {
				busy = time.After(2500 * time.Millisecond)
			}
		}
	})
}
