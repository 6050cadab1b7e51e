package ingest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	library "github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

func openJournal(tb testing.TB) *journal.Journal {
	tb.Helper()
	j, err := journal.Open(tb.Context(), journal.Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := j.Close(context.Background()); err != nil {
			tb.Errorf("closing the journal: %v", err)
		}
	})
	return j
}

// TestLibraryRelay runs our own relay library against the server, through an override, a flush and
// a reconnect.
func TestLibraryRelay(t *testing.T) {
	j := &fakeJournal{}
	srv := tcpServer(t, Options{Journal: j, PollInterval: time.Hour})
	r, err := library.NewRelay(srv.Addr().String(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(r.AddCollector("cpu", []string{"service:web1"}, library.NewPointCollector(func() float64 { return 0.25 })),
		r.AddCollector("disk", nil, library.NewSetCollector(func() map[string]float64 { return map[string]float64{"sda": 50, "sdb": 60} })))
	if err != nil {
		t.Fatal(err)
	}
	readings := func(n float64) func() bool {
		return func() bool { return counterValue(t, srv.env.m.readings) >= n }
	}
	eventually(t, "the first poll's readings", readings(3))
	if _, err := srv.Override(t.Context(), OverrideRequest{Duration: time.Minute, Collectors: every("cpu", time.Second)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "readings of the override", readings(5))
	if n := srv.Flush(nil); n != 1 {
		t.Errorf("Flush told %d relays, want 1", n)
	}
	eventually(t, "readings after the flush", readings(6))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the relay to be gone with its collectors", func() bool {
		r := srv.Relays()[0]
		return !r.Connected && len(r.Collectors) == 0
	})
	if err := srv.Forget(t.Context(), "web1"); err != nil || len(srv.Relays()) != 0 {
		t.Errorf("Forget: %v; Relays lists %v", err, srv.Relays())
	}
	if n := counterValue(t, srv.env.m.ignored); n != 0 {
		t.Errorf("%v commands of the relay were ignored", n)
	}
}

// TestRealJournal: a reader of the journal finds exactly the events that a fleet has sent.
func TestRealJournal(t *testing.T) {
	const relays = 50
	j := openJournal(t)
	srv := tcpServer(t, Options{Journal: j, PollInterval: time.Second})
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: srv.Addr().String(), N: relays, Collectors: 2,
		Tags: func(relay, c int) []string { return []string{"collector:" + string(rune('0'+c))} }})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two polls of each", func() bool { return fleet.Polls() >= 2*relays })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	sent := fleet.Sent()
	reader, err := j.ReadFrom(1)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	state, err := j.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var readings uint64
	polls, kinds := map[string]float64{}, map[codec.RelayEventKind]int{}
	for seq := uint64(0); seq < state.LastSeq; {
		records, err := reader.Read(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			seq = rec.Seq
			switch {
			case rec.Err != nil:
				t.Fatal(rec.Err)
			case rec.Relay != nil:
				kinds[rec.Relay.Kind]++
			default:
				polls[rec.Event.Relay]++
				readings += uint64(rec.Event.Readings())
				checkFleetEvent(t, rec.Event, polls[rec.Event.Relay])
			}
		}
	}
	if readings != sent {
		t.Errorf("%d readings in the journal, %d were sent", readings, sent)
	}
	if kinds[codec.RelayConnected] != relays || kinds[codec.RelayAdded] != 2*relays || kinds[codec.RelayDisconnected] != relays {
		t.Errorf("relay events %v, want %d connected, %d added, %d disconnected", kinds, relays, 2*relays, relays)
	}
}
