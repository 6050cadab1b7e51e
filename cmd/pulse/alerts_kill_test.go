package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestAlertsKill9 kills the server at random moments, while it starts and while it stops. The
// receiver of the posts refuses, hangs, answers 500 and loses its answers meanwhile, and the values
// of some relays cross a threshold and come back. Each change arrives, in order. If something
// arrives again, it is the same post.
func TestAlertsKill9(t *testing.T) {
	t.Parallel()
	rounds := fromEnvironment(t, killRounds, 5)
	r := startReceiver(t)
	proxy := testtools.StartProxy(t, r.base)
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "1", "-l", "WARN")
	w := newWaves(8)
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: len(w.relays), Stats: 1, Reconnect: true,
		Value: w.value, OnDisconnect: w.disconnected})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range w.relays {
		host := relaytest.FleetID(i)
		id, err := putAlert(s, http.MethodPost, map[string]any{"tags": map[string]string{"host": host}, "metric": relaytest.FleetStat(0), "threshold": 80,
			"duration": "1s", "every": "1s", "post": proxy.Addr + "/" + host})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	w.run()
	kills := []func(*testing.T, *pulseproc.Server){func(_ *testing.T, s *pulseproc.Server) { s.Kill() }, killStarting, killDraining, killTwice}
	faults := []testtools.Fault{testtools.Refuse, testtools.Hang, testtools.Status500, testtools.Cut, testtools.Healthy}
	for round := range rounds {
		proxy.Set(faults[round%len(faults)])
		time.Sleep(rand.N(4 * time.Second)) // the moment is random on purpose
		kills[round%len(kills)](t, s)
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		await(t, s, "accepting again", time.Minute, s.Welcomes)
		time.Sleep(rand.N(2 * time.Second)) // random on purpose too
		proxy.Set(testtools.Healthy)
	}
	w.stop()
	await(t, s, "the last crossings journaled", time.Minute, w.settled)
	again := 0
	for i, id := range ids {
		await(t, s, "everything delivered", 2*time.Minute, func() error { return delivered(s, id, w.level(i)) })
		posts, repeated, err := inOrder(r.of(relaytest.FleetID(i)))
		if want := w.crossings(i); err != nil || posts != want {
			t.Errorf("relay %d: %d changes arrived of %d, %v", i, posts, want, err)
		}
		again += repeated
	}
	t.Logf("%d crossings of one relay, %d posts arrived again", w.crossings(0), again)
}

// delivered returns an error unless the alert has the level and all its posts were delivered.
func delivered(s *pulseproc.Server, id, level string) error {
	var alert struct {
		Status struct {
			Level        string
			Undelivered  int
			LastDelivery *time.Time `json:"last_delivery"`
		}
	}
	if err := callAPI(s, http.MethodGet, "/alerts/"+id, nil, &alert); err != nil {
		return err
	}
	if a := alert.Status; a.Level != level || a.Undelivered != 0 || a.LastDelivery == nil {
		return fmt.Errorf("%+v, it should be %s", a, level)
	}
	return nil
}

// inOrder counts the changes that were posted to a path. Each change must start from the level to
// which the previous change led. A post may be repeated until the next post arrives.
func inOrder(arrived chan received) (changes, repeated int, err error) {
	last, level := "", "OK"
	for len(arrived) > 0 {
		post := <-arrived
		if post.delivery == last {
			repeated++
			continue
		}
		var body struct{ Level, PreviousLevel string }
		if err := json.Unmarshal([]byte(post.body), &body); err != nil {
			return changes, repeated, err
		}
		if post.delivery == "" || body.PreviousLevel != level || body.Level == level {
			return changes, repeated, fmt.Errorf("change %d, delivery %q, is from %s to %s; it was %s", changes, post.delivery, body.PreviousLevel, body.Level, level)
		}
		last, level = post.delivery, body.Level
		changes++
	}
	return changes, repeated, nil
}

// waves are the values of relays that cross 80 and come back. A value crosses as soon as the
// journal has enough readings of it on one side that no alert can miss that side.
type waves struct {
	mu     sync.Mutex
	going  bool
	relays []waveOf
}

type waveOf struct {
	high      bool
	crossings int
	asked     bool // whether it was polled on this connection
	journaled int  // readings since the last crossing that are in the journal
}

// enough is the number of readings in the journal before the next crossing. It is one more than
// alerts with a duration of a second need, in case a reading was under way at a kill.
const enough = 4

func newWaves(n int) *waves { return &waves{relays: make([]waveOf, n)} }

// value returns the value of a relay; it is called once a poll.
func (w *waves) value(relay, _ int, _ uint64) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.relays[relay]
	// When a relay is polled again, its last answer is in the journal.
	if r.asked {
		r.journaled++
	}
	r.asked = true
	if w.going && r.journaled >= enough {
		r.high, r.journaled = !r.high, 0
		r.crossings++
	}
	if r.high {
		return 90
	}
	return 10
}

func (w *waves) disconnected(relay int, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relays[relay].asked = false
}

func (w *waves) run()  { w.set(true) }
func (w *waves) stop() { w.set(false) }

func (w *waves) set(going bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.going = going
}

// settled returns an error if the journal may lack the last crossing of a relay.
func (w *waves) settled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.relays {
		if r.journaled < enough {
			return fmt.Errorf("relay %d has %d readings in the journal", i, r.journaled)
		}
	}
	return nil
}

func (w *waves) crossings(relay int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.relays[relay].crossings
}

func (w *waves) level(relay int) string {
	if w.crossings(relay)%2 == 1 {
		return "CRITICAL"
	}
	return "OK"
}
