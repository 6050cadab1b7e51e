package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestJournalOfAnOlderRelease starts a server on a journal whose first events are of version 1. The
// server appends events of the newest version to it, and its history is made of both alike.
func TestJournalOfAnOlderRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	journalDir := filepath.Join(dir, "journal")
	open := func() *journal.Journal {
		j, err := journal.Open(t.Context(), journal.Options{Dir: journalDir})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	shut := func(j *journal.Journal) {
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	shut(open())

	const each, relays = 120, 4
	begin := time.Now().Add(-30 * time.Minute).Truncate(time.Minute)
	events := make([]*codec.Event, 2*each)
	for i := range events {
		e := &codec.Event{Relay: relaytest.FleetID(i % relays), Time: begin.Add(time.Duration(i) * time.Second).UnixNano()}
		tags := []string{"web" + strconv.Itoa(i%relays), "guy"} // words: a recount knows no tags
		for s := range 10 {
			stat := codec.Stat{ID: relaytest.FleetStat(s), Value: relaytest.FleetValue(0, s, uint64(i/relays+1)) + 0.25}
			if s == 0 || i%2 == 0 { // a collector for each stat
				e.Collectors = append(e.Collectors, codec.Collector{Name: stat.ID, Tags: tags})
			}
			last := &e.Collectors[len(e.Collectors)-1]
			last.Stats = append(last.Stats, stat)
		}
		events[i] = e
	}
	var older []journal.Message
	for _, e := range events[:each] {
		older = append(older, journal.Message{Subject: codec.ReadingsSubject + codec.Token(e.Relay), Data: version1(e)})
	}
	journaltest.AppendMessages(t, journalDir, older...)
	j := open()
	journaltest.Append(t, j, events[each:]...)
	shut(j)

	s := startServer(t, dir, "--influx-address", "embedded", "-p", "1", "-a", "1")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays, ID: func(relay int) string { return "live-" + strconv.Itoa(relay) }})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "polls", time.Minute, func() error {
		if n := fleet.Polls(); n < 3*relays {
			return fmt.Errorf("%d polls", n)
		}
		return nil
	})
	fleet.Finish()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	n := 0
	readJournal(t, dir, func(_ uint64, e *codec.Event) {
		if n < len(events) && !reflect.DeepEqual(e, events[n]) {
			t.Errorf("event %d was read as %+v, want %+v", n, e, events[n])
		}
		n++
	})
	if n < len(events)+3*relays {
		t.Errorf("%d events were read", n)
	}
	compareWithInflux(t, dir, recount(t, dir))
	if text := pulse(t, command.ExitOK, "check", "--data-dir", dir); !strings.Contains(text, "whole") {
		t.Errorf("pulse check says %s", text)
	}
}

// version1 encodes an event as Pulse 0.3 did before version 2. Its names and tags need no escapes.
func version1(e *codec.Event) []byte {
	data := fmt.Appendf(nil, `{"v":1,"relay":%q,"time":%d,"collectors":[`, e.Relay, e.Time)
	for i, c := range e.Collectors {
		if i > 0 {
			data = append(data, ',')
		}
		data = fmt.Appendf(data, `{"name":%q,"tags":["%s"],"stats":{`, c.Name, strings.Join(c.Tags, `","`))
		for k, s := range c.Stats {
			if k > 0 {
				data = append(data, ',')
			}
			data = fmt.Appendf(data, `%q:%v`, s.ID, s.Value)
		}
		data = append(data, "}}"...)
	}
	return append(data, "]}"...)
}
