package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/link"
)

// TestHubRetention has the edge's journal drop events during an outage. Both ends tell of one gap, with
// its numbers, and the hub has everything else.
func TestHubRetention(t *testing.T) {
	t.Parallel()
	s := newSites(t, "ams1")
	e := s.edges[0]
	e.withPushers(4)
	e.say(20)
	before := e.down()
	had := before[len(before)-1].seq
	e.server = startServer(t, e.dir, e.args("--journal-max-bytes", "64MB")...)
	e.pushers.addr = e.server.RelayAddr
	e.level()
	e.wire.cut()
	e.pushers = newPushers(e.server.RelayAddr, 4, 1, e.pushers.relays[0].random)
	var words []string
	for i := range 50 {
		words = append(words, strings.Repeat(strconv.Itoa(i%10), 500))
	}
	for i, r := range e.pushers.relays {
		r.id = fmt.Sprint("large-", i)
		r.tags = strings.Join(words, ",") // large events fill the journal soon
	}
	first := uint64(0)
	await(t, e.server, "a journal that has dropped what the hub lacks", 2*time.Minute, func() error {
		e.say(50)
		var status serverStatus
		if err := e.server.Get("/status", &status); err != nil {
			return err
		}
		if first = status.Journal.FirstSequence; first <= had+500 {
			return fmt.Errorf("it holds %d to %d", first, status.Journal.LastSequence)
		}
		return nil
	})
	e.wire.mend()
	e.level()
	want := link.Gap{From: had + 1, To: first - 1, Events: first - 1 - had, Reason: journal.GapRetention}
	for _, end := range []string{"at once", "after a restart of the hub"} {
		seen, err := s.seen(e.name)
		if err != nil {
			t.Fatal(err)
		}
		checkGap(t, "the hub, "+end, seen.Gaps, want)
		up, err := e.uplink()
		if err != nil {
			t.Fatal(err)
		}
		checkGap(t, "the edge, "+end, up.Gaps, want)
		s.hub.Kill()
		s.hubUp()
		e.level()
	}
	now := e.down()
	stopProjected(t, s.hub)
	if now[0].seq < first {
		t.Errorf("the edge's journal begins at %d, not at %d", now[0].seq, first)
	}
	has := entriesOf(t, s.dir)[e.name]
	// The edge's journal may have dropped more since.
	i := slices.IndexFunc(has, func(h entry) bool { return h.seq >= now[0].seq })
	if text := compareEntries(has[i:], now); text != "" {
		t.Error(text)
	}
	if text := compareEntries(has[:len(before)], before); text != "" {
		t.Errorf("before the outage: %s", text)
	}
	for i := range has[1:] {
		if a, b := has[i].seq, has[i+1].seq; b != a+1 && (a != had || b != first) {
			t.Errorf("%d follows %d", b, a)
		}
	}
	t.Logf("%d entries at the hub, gap %d to %d", len(has), want.From, want.To)
}

func checkGap(t *testing.T, who string, gaps []link.Gap, want link.Gap) {
	t.Helper()
	if len(gaps) != 1 || gaps[0].Time.IsZero() {
		t.Errorf("%s says %+v, want %+v", who, gaps, want)
		return
	}
	want.Time = gaps[0].Time
	if gaps[0] != want {
		t.Errorf("%s says %+v, want %+v", who, gaps[0], want)
	}
}
