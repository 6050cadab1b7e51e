package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// hostileRelays is the environment variable with the number of relays in TestHostileFleet: 1,000 by
// default, 10,000 in a soak test. It is also the number of idle connections in TestHostileHTTP.
const hostileRelays = "PULSE_HOSTILE_RELAYS"

// hostileMemory is how much memory the server may use, whatever the attack.
const hostileMemory = raceMemory << 30

// TestHostileFleet does everything to the relay port of a real server that unknown clients can do.
// A tenth of the relays stall, a tenth flap, a tenth send nonsense, and some send endless lines or
// add without end. Half as many more send nothing at all. The honest relays beside them lose no
// poll and no reading. The server's memory stays bounded. Everything that was refused is a number
// in /metrics and a line in the log.
func TestHostileFleet(t *testing.T) {
	t.Parallel()
	const stats, token = 4, "relay-token"
	n := fromEnvironment(t, hostileRelays, 1000)
	every := 5 * time.Second
	if n > 2000 {
		every = 10 * time.Second // the test too is slow to close 10,000 connections
	}
	lasts := 11*time.Second + time.Duration(n)*4*time.Millisecond
	dir := t.TempDir()
	log := &transcript{}
	s := serverOf(t, pulseproc.Options{DataDir: dir, Output: log,
		Args: []string{"--influx-address", "embedded", "-p", strconv.Itoa(int(every.Seconds())), "-b", "4", "-a", "1", "-l", "WARN", "--relay-token", token}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	polls := make([]atomic.Uint64, n*65/100) // the number of polls that each relay has answered
	honest := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: len(polls), Stats: stats, Token: token,
		OnPoll: func(relay int, poll uint64) { polls[relay].Store(poll) }})
	defer honest.Stop()
	if err := honest.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A new relay is polled twice within an interval, perhaps within a second. Thousands of relays
	// that connect at the same moment may be too slow for that, even without attackers.
	await(t, s, "the fleet's second polls", time.Minute, func() error {
		for i := range polls {
			if n := polls[i].Load(); n < 2 {
				return fmt.Errorf("%s has answered %d", relaytest.FleetID(i), n)
			}
		}
		return nil
	})
	skipped, err := latePolls(s)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	h := newHostiles(t, s.RelayAddr, token)
	h.attack(n)
	<-time.After(lasts) // the attack lasts this long

	await(t, s, "whatever the attackers are refused being counted and said", 3*time.Minute, func() error { return refusals(s, n, log.String()) })
	await(t, s, "every odd id being tried", 3*time.Minute, func() error {
		select {
		case <-h.allOdd:
			return nil
		default:
			return errors.New("not yet")
		}
	})

	// want is the fewest polls that a relay may have had while the attackers are still there. It is
	// half of the polls that were due, because some are late on a busy machine.
	want := uint64(time.Since(began) / every / 2)
	for i := range polls {
		if got := polls[i].Load(); got < want {
			t.Fatalf("%s answered %d polls in %v, want %d", relaytest.FleetID(i), got, time.Since(began).Round(time.Second), want)
		}
	}
	// From now on the relays are hardly polled, so that the numbers of polls and answers can be
	// compared.
	if err := s.Post("/overrides", `{"duration":3600,"collectors":{"c0":3600}}`); err != nil {
		t.Error(err)
	}
	await(t, s, "every poll of an honest relay is answered", time.Minute, func() error { return compareWithFleet(s, honest, skipped) })
	if honest.Disconnects() != 0 || honest.Complaints() != 0 {
		t.Errorf("honest relays were disconnected %d times and scolded %d times; the last time: %v", honest.Disconnects(), honest.Complaints(), honest.Err())
	}
	h.stop()
	wantFewLines(t, log.String(), 2+int(time.Since(began)/time.Minute))
	_, peak, err := s.RSS()
	if err != nil {
		t.Fatal(err)
	}
	if peak > hostileMemory {
		t.Errorf("the server took %d MiB", peak>>20)
	}
	honest.Finish()
	stopProjected(t, s)
	sent := honest.Sent()
	if got := storedReadings(t, dir, stats); got != sent {
		t.Errorf("honest relays sent %d readings, InfluxDB holds %d", sent, got)
	}
	if got, want := storedOdd(t, dir), h.welcomed.Load(); got != want {
		t.Errorf("%d relays with odd names were welcomed, the readings of %d are in the journal", want, got)
	}
	t.Logf("%d honest relays answered %d polls beside %d connections of others in %v; the server took %d MiB at most",
		len(polls), honest.Polls(), h.connections.Load(), time.Since(began).Round(time.Second), peak>>20)
}

// compareWithFleet compares the server's numbers about the fleet's relays with the fleet's own.
// skipped is how many polls were not answered in time before the measurement.
func compareWithFleet(s *pulseproc.Server, fleet *relaytest.Fleet, skipped float64) error {
	var relays []struct {
		ID                                   string
		Polls, Unanswered, Skipped, Rejected uint64
	}
	before := fleet.Polls()
	if err := s.Get("/relays", &relays); err != nil {
		return err
	}
	after := fleet.Polls() // more than before, if the answer took long
	var polls, left, rejected uint64
	for _, r := range relays {
		if strings.HasPrefix(r.ID, "relay-") {
			polls, left, rejected = polls+r.Polls, left+r.Unanswered+r.Skipped, rejected+r.Rejected
		}
	}
	// Some answers are late on a busy machine.
	if left > uint64(skipped)+polls/2 || rejected != 0 {
		return fmt.Errorf("of %d polls %d were not answered in time, %v of them before; %d readings were rejected", polls, left, skipped, rejected)
	}
	if polls < before || polls > after {
		return fmt.Errorf("%d polls were sent, %d to %d answered", polls, before, after)
	}
	return nil
}

// latePolls counts the polls that were not answered before the next one was due.
func latePolls(s *pulseproc.Server) (float64, error) {
	skipped, err := s.Metric("pulse_ingest_polls_skipped_total")
	unanswered, err2 := s.Metric("pulse_ingest_polls_unanswered_total")
	return skipped + unanswered, errors.Join(err, err2)
}

// refusals returns an error for each refusal of the attackers that is not counted yet, or not
// logged.
func refusals(s *pulseproc.Server, n int, log string) error {
	var missing []error
	for metric, reasons := range map[string][]string{
		"connections_refused_total": {"id_timeout", "not_identified", "missing_id", "bad_id", "wrong_token", "line_too_long", "gone"},
		"disconnections_total":      {"silent", "stuck", "line_too_long", "lost", "replaced"},
		"requests_refused_total":    {"collectors", "series", "bad_add", "bad_units"},
		"readings_rejected_total":   {"no_value", "not_number", "not_finite", "bad_name", "unknown_collector", "duplicate", "series_limit"},
		"commands_ignored_total":    {""},
		"polls_unanswered_total":    {""},
	} {
		for _, reason := range reasons {
			if n < manySeries && strings.HasPrefix(reason, "series") {
				continue
			}
			var labels []string
			if reason != "" {
				labels = []string{fmt.Sprintf("reason=%q", reason)}
			}
			if v, err := s.Metric("pulse_ingest_"+metric, labels...); err != nil || v == 0 {
				missing = append(missing, fmt.Errorf("%s %s: %v %v", metric, reason, v, err))
			}
		}
	}
	for _, line := range refusalLines {
		if !line.MatchString(log) && (n >= manySeries || !strings.Contains(line.String(), "series")) {
			missing = append(missing, fmt.Errorf("the log has no line like %q", line))
		}
	}
	return errors.Join(missing...)
}

// wantFewLines checks that a refusal that repeats is logged only once a minute.
func wantFewLines(t *testing.T, log string, minutes int) {
	t.Helper()
	for _, line := range refusalLines {
		if got := len(line.FindAllString(log, -1)); got > minutes {
			t.Errorf("%d log lines like %q, want %d at most", got, line, minutes)
		}
	}
}

var refusalLines = compileAll(
	`relay connection refused" .*reason=id_timeout`, `relay connection refused" .*reason=not_identified`, `relay connection refused" .*reason=missing_id`,
	`relay connection refused" .*reason=bad_id`, `relay connection refused" .*reason=wrong_token`, `relay connection refused" .*reason=line_too_long`,
	`relay was disconnected" .*reason=silent`, `relay was disconnected" .*reason=stuck`, `relay was disconnected" .*reason=line_too_long`,
	`use the same id`, `relay has too many collectors`, `relay has too many series`, `a relay's add was refused`,
	`readings were not taken" .*reason=no_value`, `readings were not taken" .*reason=not_number`, `readings were not taken" .*reason=not_finite`,
	`readings were not taken" .*reason=bad_name`, `readings were not taken" .*reason=unknown_collector`, `readings were not taken" .*reason=duplicate`,
	`relay says what is no command`,
)

func compileAll(patterns ...string) (all []*regexp.Regexp) {
	for _, p := range patterns {
		all = append(all, regexp.MustCompile(p))
	}
	return all
}

// storedReadings counts the raw readings of the fleet's stats in the InfluxDB of a stopped server.
// First it checks that the journal and the aggregates hold the same number.
func storedReadings(t *testing.T, dir string, stats int) (n uint64) {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: filepath.Join(dir, "influx")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	number := func(statement string) (n uint64) {
		rows, err := store.Query(t.Context(), statement, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for _, v := range row.Values {
				x, _ := v[1].(float64)
				n += uint64(x)
			}
		}
		return n
	}
	var aggregated uint64
	for i := range stats {
		name := relaytest.FleetStat(i)
		n += number(fmt.Sprintf(`SELECT count(%q) FROM "one_day".%q`, name, name))
		aggregated += number(fmt.Sprintf(`SELECT sum(%q) FROM "one_week"."aggregate"`, name+":count"))
	}
	var journaled uint64
	readJournal(t, dir, func(_ uint64, e *codec.Event) {
		for _, c := range e.Collectors {
			if strings.HasPrefix(e.Relay, "relay-") {
				journaled += uint64(len(c.Stats))
			}
		}
	})
	if n != aggregated || n != journaled {
		t.Errorf("InfluxDB holds %d raw readings, its aggregates count %d, the journal holds %d", n, aggregated, journaled)
	}
	return n
}

// storedOdd counts the relays that have a reading of the stat "odd" in the journal.
func storedOdd(t *testing.T, dir string) int64 {
	t.Helper()
	relays := make(map[string]bool)
	readJournal(t, dir, func(_ uint64, e *codec.Event) {
		for _, c := range e.Collectors {
			for _, s := range c.Stats {
				if s.ID == "odd" {
					relays[e.Relay] = true
				}
			}
		}
	})
	return int64(len(relays))
}

// again repeats f until ctx ends, with a pause in between.
func again(ctx context.Context, pause time.Duration, f func()) {
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
