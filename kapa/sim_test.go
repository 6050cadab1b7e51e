package kapa

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// sim simulates Pulse with a journal in memory and a clock of its own. It can be killed at any
// moment.
type sim struct {
	tb      testing.TB
	path    string
	db      *bbolt.DB
	a       *Alerts
	e       *Evaluator
	now     time.Time
	records []journal.Record
	read    int    // records that the evaluator got
	saved   uint64 // the position that the runner saved
	lazy    bool   // the runner saves no positions for now
}

func newSim(tb testing.TB) *sim {
	s := &sim{tb: tb, path: filepath.Join(tb.TempDir(), "pulse.db"), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	s.start()
	return s
}

func (s *sim) State(context.Context) (journal.State, error) {
	return journal.State{LastSeq: uint64(len(s.records))}, nil
}

// FirstAt takes the time of an event for that at which it was stored.
func (s *sim) FirstAt(_ context.Context, t time.Time) (uint64, error) {
	at := slices.IndexFunc(s.records, func(r journal.Record) bool { return r.Event != nil && r.Event.Time >= t.UnixNano() })
	if at < 0 {
		at = len(s.records)
	}
	return uint64(at + 1), nil
}

func (s *sim) Range(_ context.Context, span journal.Span, visit func([]journal.Record, *journal.GapError) error) error {
	for records := range slices.Chunk(s.records[span.First-1:min(span.Last, uint64(len(s.records)))], 1000) {
		if err := visit(records, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *sim) start() {
	s.tb.Helper()
	s.db = openDB(s.tb, s.path)
	s.db.NoSync = true // the process is never killed for real
	var err error
	s.a, err = New(Options{DB: s.db, Instance: "TEST", Journal: s, Now: func() time.Time { return s.now }})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.e = s.a.Projection()
	s.e.Reset(s.saved)
	s.read = int(s.saved)
}

// kill ends the process at once; start begins the next one.
func (s *sim) kill() {
	if err := s.db.Close(); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *sim) create(a Alert) string {
	s.tb.Helper()
	v, err := s.a.Create(a)
	if err != nil {
		s.tb.Fatal(err)
	}
	return v.ID
}

// send appends a reading to the journal, with the present time.
func (s *sim) send(relay, metric string, value float64, tags ...string) {
	s.records = append(s.records, journal.Record{Seq: uint64(len(s.records) + 1), Event: &codec.Event{Relay: relay, Time: s.now.UnixNano(),
		Collectors: []codec.Collector{{Name: "c", Tags: tags, Stats: []codec.Stat{{ID: metric, Value: value}}}}}})
}

func (s *sim) save(position uint64, err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
	if !s.lazy && position > s.saved {
		s.saved = position
	}
}

// step gives the evaluator the new records of the journal, and a tick.
func (s *sim) step() {
	s.tb.Helper()
	if s.read < len(s.records) {
		s.save(s.e.Apply(s.tb.Context(), s.records[s.read:]))
		s.read = len(s.records)
	}
	s.save(s.e.Tick(s.tb.Context(), s.now))
}

// run lets time pass second by second, and calls each before each step.
func (s *sim) run(d time.Duration, each func()) {
	s.tb.Helper()
	for range d / time.Second {
		if each != nil {
			each()
		}
		s.now = s.now.Add(time.Second)
		s.step()
	}
}

// posts returns all queued posts, in order.
func (s *sim) posts() (all []message) {
	s.tb.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error {
		return bucket(tx, queueBucket).ForEach(func(_, data []byte) error {
			var d delivery
			var m message
			if err := json.Unmarshal(seal.Open(data), &d); err != nil {
				return err
			}
			all = append(all, m)
			return json.Unmarshal(d.Body, &all[len(all)-1])
		})
	}); err != nil {
		s.tb.Fatal(err)
	}
	return all
}

func words(posts []message) string {
	var all []string
	for _, m := range posts {
		all = append(all, m.Message)
	}
	return strings.Join(all, "; ")
}

func (s *sim) expect(want ...string) {
	s.tb.Helper()
	if got := words(s.posts()); got != strings.Join(want, "; ") {
		s.tb.Fatalf("at %s posted: %s\nwanted: %s", s.now.Format(time.TimeOnly), got, strings.Join(want, "; "))
	}
}

// quick is an alert over 60 s that is evaluated every 30 s.
func quick() Alert {
	return Alert{Tags: map[string]string{"host": "web1"}, Metric: "cpu_used", Threshold: 80, Duration: minute, Post: "http://127.0.0.1/"}
}
