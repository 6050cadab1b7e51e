package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/command"
)

// TestRelaysCommand checks the output for people, with disconnected relays first.
func TestRelaysCommand(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 20, 30, 0, time.UTC)
	relays := []ingest.Relay{
		{ID: "db1", Connected: true, RemoteAddr: "10.0.0.8:40001", LastSeen: now.Add(-2 * time.Second), Collectors: make([]ingest.Collector, 9), Spool: &ingest.RelaySpool{Waiting: 1200, Dropped: 64092}, RelayCounts: ingest.RelayCounts{Polls: 12345, Unanswered: 1}},
		{ID: "ghost\x1b[2J", LastSeen: now.Add(-50 * time.Hour), RelayCounts: ingest.RelayCounts{Rejected: 3}},
		{ID: "web1", Connected: true, RemoteAddr: "10.0.0.7:40001", RelayCounts: ingest.RelayCounts{Replaced: 1234, ReplacedAddr: "10.0.0.9:40001"}},
	}
	const want = `RELAY      STATE         LAST READING  COLLECTORS  POLLS   UNANSWERED  REJECTED  SPOOL                                ADDRESS
ghost [2J  disconnected  2d2h ago      0           0       0           3         -                                    -
db1        connected     2s ago        9           12,345  1           0         1,200 wait, dropped 64,092 readings  10.0.0.8:40001
web1       connected     -             0           0       0           0         -                                    10.0.0.7:40001 (has replaced 10.0.0.9:40001, 1,234 times)
`
	var b strings.Builder
	if err := printRelays(&b, relays, now); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := printRelays(&b, nil, now); err != nil || !strings.HasPrefix(b.String(), "no relays") {
		t.Errorf("%v %q", err, b.String())
	}
	if text := pulse(t, command.ExitFailure, "relays", "--api", "127.0.0.1:1"); !strings.Contains(text, "is a server running there?") {
		t.Errorf("without a server: %q", text)
	}
	if code, _, text := runCommand("relays", "forget"); code == command.ExitOK || code == command.ExitFailure || !strings.Contains(text, "ID is missing") {
		t.Errorf("%d %q", code, text)
	}
}

// TestForgetRelay forgets relays whose ids are special in a path or a shell. A connected relay can
// be forgotten only after its connection has ended. Forgotten relays stay forgotten after a kill.
func TestForgetRelay(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "3600", "-l", "WARN")
	ids := []string{"web1", "rack 7/web 1", "50%", "%2F", "..", "ä?&#;", "a+b"}
	conns := make(map[string]net.Conn)
	for _, id := range ids {
		conn, err := net.Dial("tcp", s.RelayAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[id] = conn
		if _, err := fmt.Fprintf(conn, "id %s\nadd cpu\ngot cpu-used:1\n", id); err != nil {
			t.Fatal(err)
		}
	}
	latest := func(id string) error {
		var reading stat
		return s.Get("/latest/used?host="+url.QueryEscape(id), &reading)
	}
	for _, id := range ids {
		await(t, s, "the reading of "+id, time.Minute, func() error { return latest(id) })
	}
	if text := pulse(t, command.ExitFailure, "relays", "forget", "--api", s.HTTPAddr, "web1"); !strings.Contains(text, "the relay is connected from 127.0.0.1:") ||
		!strings.Contains(text, "stop it first") {
		t.Errorf("forgetting a connected relay: %q", text)
	}
	for _, id := range ids {
		conns[id].Close()
		await(t, s, "the end of "+id, time.Minute, func() error {
			if code, _, text := runCommand("relays", "forget", "--api", s.HTTPAddr, id); code != command.ExitOK {
				return errors.New(text)
			}
			return nil
		})
		await(t, s, "the readings' end", time.Minute, func() error {
			if latest(id) == nil {
				return errors.New("/latest still has the reading")
			}
			return nil
		})
	}
	check := func() {
		t.Helper()
		if code, text, _ := runCommand("relays", "--api", s.HTTPAddr); code != command.ExitOK || !strings.HasPrefix(text, "no relays") {
			t.Errorf("%d %s", code, text)
		}
		if code, text, _ := runCommand("relays", "--api", s.HTTPAddr, "--json"); code != command.ExitOK || text != "[]\n" {
			t.Errorf("%d %s", code, text)
		}
		for _, id := range ids {
			if latest(id) == nil {
				t.Errorf("/latest has a reading of %s", id)
			}
		}
		if n, err := s.Metric("pulse_ingest_relays_known"); err != nil || n != 0 {
			t.Errorf("%v relays are known, %v", n, err)
		}
	}
	check()
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitProjected(t, s)
	check()
	if text := pulse(t, command.ExitFailure, "relays", "forget", "--api", s.HTTPAddr, "web1"); !strings.Contains(text, "no relay has this id") {
		t.Errorf("forgetting it again: %q", text)
	}
}
