// Package journaltest opens journals for the tests of other packages: real ones, in a directory of
// the test, closed when the test ends.
package journaltest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Open opens an empty journal in a directory of the test's own and closes it when the test ends.
// It does not fsync, so that tests are quick on any disk.
func Open(tb testing.TB) *journal.Journal {
	tb.Helper()
	return OpenOptions(tb, journal.Options{Sync: journal.SyncEvery(time.Minute)})
}

// OpenOptions is Open with options of the test's choosing. An empty Dir means a directory of the
// test's own.
func OpenOptions(tb testing.TB, o journal.Options) *journal.Journal {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	j, err := journal.Open(ctx, o)
	if err != nil {
		tb.Fatalf("opening a journal in %s: %v", o.Dir, err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := j.Close(ctx); err != nil {
			tb.Errorf("closing the journal: %v", err)
		}
	})
	return j
}

// Append appends the events and returns the sequence number of the last.
func Append(tb testing.TB, j *journal.Journal, events ...*codec.Event) uint64 {
	tb.Helper()
	var last uint64
	for _, e := range events {
		seq, err := j.Append(tb.Context(), e)
		if err != nil {
			tb.Fatalf("appending an event of %q: %v", e.Relay, err)
		}
		last = seq
	}
	return last
}

// AppendMessages stores messages as they are, such as events that an older release wrote, in the
// journal in dir. There must be a journal in dir, and nobody may have it open.
func AppendMessages(tb testing.TB, dir string, messages ...journal.Message) {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatalf("appending messages to the journal in %s: %v", dir, err)
		}
	}
	o := &server.Options{ServerName: "pulse", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, JetStreamMaxStore: 1 << 60}
	const user = "older"
	must(o.ProcessConfigString(fmt.Sprintf("accounts { %s { jetstream: enabled, users: [ {user: %q, password: %[2]q} ] } }", journal.Account, user)))
	srv, err := server.NewServer(o)
	must(err)
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	conn, err := nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(user, user))
	must(err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	must(err)
	for _, m := range messages {
		_, err := js.Publish(tb.Context(), m.Subject, m.Data)
		must(err)
	}
}

// Event is a short form: one collector named after the stats' owner, with the stats in the order
// given.
func Event(relay string, t int64, collector string, tags []string, stats ...codec.Stat) *codec.Event {
	return &codec.Event{Relay: relay, Time: t, Collectors: []codec.Collector{{Name: collector, Tags: tags, Stats: stats}}}
}
