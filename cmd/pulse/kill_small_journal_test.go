package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx/embedded"
)

// TestKill9WithASmallJournal kills a server whose journal has dropped most of what it held since the
// start. The embedded InfluxDB has all of it, although what it holds in memory is only written to
// files every few minutes.
func TestKill9WithASmallJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "-p", "3600", "--journal-max-bytes", "64MB")
	// Large events, so that few of them fill the journal.
	words := make([]string, 50)
	for i := range words {
		words[i] = strings.Repeat(strconv.Itoa(i%10), 500)
	}
	relays := newPushers(s.RelayAddr, 4, 1, rand.New(rand.NewPCG(1, 0)))
	defer relays.stop()
	for _, r := range relays.relays {
		r.tags = strings.Join(words, ",")
	}
	sent := 0
	await(t, s, "a journal that has dropped most", 2*time.Minute, func() error {
		const each = 100
		if err := relays.push(t.Context(), each); err != nil {
			t.Fatal(err)
		}
		sent += each
		var status serverStatus
		if err := s.Get("/status", &status); err != nil {
			return err
		}
		if status.Journal.FirstSequence < status.Journal.LastSequence/2 {
			return fmt.Errorf("it holds %d to %d", status.Journal.FirstSequence, status.Journal.LastSequence)
		}
		return nil
	})
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopProjected(t, s)
	store, err := embedded.Open(embedded.Options{Dir: filepath.Join(dir, "influx")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rows, err := store.Query(t.Context(), `SELECT count("stat_0") FROM "one_day"."stat_0" GROUP BY "host"`, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if n := fmt.Sprint(row.Values[0][1]); n != strconv.Itoa(sent) {
			t.Errorf("%s has %s of %d readings", row.Tags["host"], n, sent)
		}
	}
	if len(rows) != len(relays.relays) {
		t.Errorf("%d relays have readings", len(rows))
	}
}
