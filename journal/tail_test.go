package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// consumers is how many consumers the server has.
func consumers(t *testing.T, j *Journal) int {
	t.Helper()
	info, err := j.runs.current().stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Consumers
}

// tailOf makes batches of the given sizes in events, with ten bytes each and one second apart.
func tailOf(w *watermark, now time.Time, sizes ...int) {
	for i, n := range sizes {
		w.commit(&tailBatch{first: w.seq + 1, events: n, bytes: 10 * n, at: now.Add(time.Duration(i) * time.Second)}, 0, 0)
	}
}

func TestTailIsBounded(t *testing.T) {
	now := time.Now()
	for name, limit := range map[string]func(*tail){
		"events": func(t *tail) { t.maxEvents = 7 },
		"bytes":  func(t *tail) { t.maxBytes = 70 },
		"age":    func(t *tail) { t.maxAge = time.Second },
	} {
		w := newWatermark(Options{Retention: time.Hour})
		w.tail.maxAge = time.Hour
		limit(&w.tail)
		tailOf(w, now, 3, 3, 3, 4)
		if w.tail.events != 7 || w.tail.bytes != 70 || len(w.tail.batches) != 2 || w.tail.batches[0].first != 7 {
			t.Errorf("%s: it holds %d events with %d bytes", name, w.tail.events, w.tail.bytes)
		}
		// A batch that is larger than the limit is kept alone.
		tailOf(w, now.Add(time.Hour), 100)
		if w.tail.events != 100 || w.seq != 113 {
			t.Errorf("%s: then it holds %d events and ends with %d", name, w.tail.events, w.seq)
		}
	}
	if w := newWatermark(Options{Retention: time.Second}); w.tail.maxAge != time.Second {
		t.Errorf("events stay for %v, longer than in the journal", w.tail.maxAge)
	}
}

func TestTailPlaces(t *testing.T) {
	w := newWatermark(Options{Retention: time.Hour})
	w.tail.maxEvents = 10
	at := func(seq uint64, rewinds int, consumer bool) string {
		p := w.place(seq, rewinds, consumer)
		switch {
		case p.head:
			return "head"
		case p.batch == nil:
			return "server"
		}
		return fmt.Sprint(p.batch.first)
	}
	want := func(seq uint64, rewinds int, consumer bool, want string) {
		t.Helper()
		if got := at(seq, rewinds, consumer); got != want {
			t.Errorf("the place of %d is %s, want %s", seq, got, want)
		}
	}
	want(1, 0, false, "head")
	want(0, 0, false, "server")
	want(2, 0, false, "server")
	tailOf(w, time.Now(), 4, 4, 2, 4) // 5 to 14 are there
	for seq, place := range map[uint64]string{0: "server", 1: "server", 4: "server", 5: "5", 8: "5", 9: "9", 10: "9", 11: "11", 14: "11", 15: "head", 16: "server"} {
		want(seq, 0, false, place)
	}
	want(9, 0, true, "server")
	want(10, 0, true, "9")
	want(15, 0, true, "head")
	w.tail.batches[1].at = time.Now().Add(-w.tail.maxAge * 3 / 4)
	want(10, 0, true, "server")
	want(10, 0, false, "9")
	// After a write error and a start nothing is there, and a reader at the head is still there.
	w.forget()
	want(14, 0, false, "server")
	want(15, 0, false, "head")
	w.advance(12, 0)
	want(15, 0, false, "server")
	want(13, 0, false, "head")
	// The journal was set back. A reader that does not know of it yet gets nothing from the tail.
	w.commit(&tailBatch{first: 13, events: 3, at: time.Now()}, 0, 1)
	want(15, 0, false, "server")
	want(16, 0, false, "server")
	want(15, 1, false, "13")
	want(16, 1, false, "head")
	// An old event may have been dropped from the journal.
	w.tail.batches[0].at = time.Now().Add(-2 * w.tail.maxAge)
	want(15, 1, false, "server")
}

// Readers at the head have no consumer, and share what is decoded once.
func TestReadersAtTheHeadShare(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 10)
	closeJournal(t, j)
	j = open(t, Options{Dir: j.o.Dir})
	j.durable.tail.maxAge = time.Hour
	readers := []*Reader{from1(t, j, 1), from1(t, j, 1), from1(t, j, 11)}
	for _, r := range readers[:2] {
		readN(t, r, 10) // from the server: nothing was committed since the start
	}
	if got := value(t, j.m.readServer); got != 20 {
		t.Errorf("%v events from the server", got)
	}
	const events = 100
	for i := range events {
		relay := codec.RelayEvent{Relay: "r", Time: int64(i), Kind: codec.RelayAdded, Collector: fmt.Sprint(i), Tags: []string{"a", "b"}}
		if _, err := j.AppendRelayEvent(t.Context(), &relay); err != nil {
			t.Fatal(err)
		}
		appendN(t, j, "r", 10+i, 1)
		var first []Record
		for _, r := range readers {
			records, err := r.Read(t.Context(), 10)
			for err == nil && len(records) < 2 {
				var more []Record
				more, err = r.Read(t.Context(), 10)
				records = append(records, more...)
			}
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = records
			}
			if len(records) != 2 || records[0].Relay != first[0].Relay || records[1].Relay != first[1].Relay {
				t.Fatalf("one reader has %v, the other %v", records, first)
			}
			if rec := records[0]; rec.Seq != uint64(11+2*i) || rec.Relay.Collector != fmt.Sprint(i) || len(rec.Relay.Tags) != 2 {
				t.Fatalf("record %d: %+v", rec.Seq, rec.Relay)
			}
			if rec := records[1]; rec.Seq != uint64(12+2*i) || rec.Event.Time != sample("", 10+i).Time || rec.Event.Readings() != 10 {
				t.Fatalf("record %d: %+v", rec.Seq, rec.Event)
			}
		}
	}
	if server, tail := value(t, j.m.readServer), value(t, j.m.readTail); server != 20 || tail != 3*2*events {
		t.Errorf("%v events from the server, %v from the tail", server, tail)
	}
	eventually(t, "the server has no consumer any more", func() bool { return consumers(t, j) == 0 })
	for _, r := range readers {
		if r.pull != nil || r.events != nil {
			t.Error("a reader at the head has a consumer or memory for its events")
		}
		if p := r.Pending(); p != 0 {
			t.Errorf("%d pending at the head", p)
		}
	}
}

// A reader that falls behind the tail is served by the server until it has caught up.
func TestReaderFallsBehindTheTail(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	j.durable.tail.maxEvents, j.durable.tail.maxAge = 50, time.Hour
	r := from1(t, j, 1)
	appendN(t, j, "r", 0, 40)
	readN(t, r, 10)
	if got := value(t, j.m.readServer); got != 0 || r.pull != nil {
		t.Errorf("%v events from the server", got)
	}
	appendN(t, j, "r", 40, 160) // 151 to 200 are in the tail
	readN(t, r, 100)
	if got := value(t, j.m.readServer); got != 100 || r.pull == nil {
		t.Errorf("%v events from the server", got)
	}
	if p := r.Pending(); p != 90 {
		t.Errorf("%d pending", p)
	}
	readN(t, r, 90)
	appendN(t, j, "r", 200, 1)
	readN(t, r, 1)
	if got := value(t, j.m.readServer); got > 190 || r.pull != nil {
		t.Errorf("%v events from the server, and the consumer is %v", got, r.pull)
	}
	eventually(t, "the server has no consumer any more", func() bool { return consumers(t, j) == 0 })
	if p := r.Pending(); p != 0 {
		t.Errorf("%d pending", p)
	}
}

// Events of a reader's last two batches stay as they are, wherever they come from, while other
// readers and the committer go on.
func TestRecordsStayUntilTheReadAfterTheNext(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		j := open(t, Options{Sync: SyncEvery(time.Minute)})
		j.durable.tail.maxEvents = 20
		const n = 500
		var wg sync.WaitGroup
		for g := range 4 {
			r := from1(t, j, 1)
			wg.Go(func() {
				var before []Record
				for next := uint64(1); next <= n; {
					records, err := r.Read(t.Context(), 1+5*g)
					if err != nil {
						t.Error(err)
						return
					}
					for _, rec := range append(before[:len(before):len(before)], records...) {
						if e := rec.Event; e == nil || e.Relay != "r" || e.Time != sample("", int(rec.Seq-1)).Time || e.Readings() != 10 ||
							e.Collectors[0].Stats[0].Value != float64(rec.Seq-1) || e.Collectors[1].Tags[0] != "service:web1" {
							t.Errorf("record %d is %+v", rec.Seq, e)
							return
						}
					}
					before, next = records, records[len(records)-1].Seq+1
				}
			})
		}
		appendN(t, j, "r", 0, n)
		wg.Wait()
	})
}

// What was written and not acknowledged is not in the tail, whether the disk has it in the end or
// not.
func TestTailHasNothingUnacknowledged(t *testing.T) {
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync, retryMin: 5 * time.Millisecond})
	appendN(t, j, "r", 0, 3)
	r := from1(t, j, 1)
	readN(t, r, 3)
	g.close()
	t.Cleanup(g.open)
	failed := make(chan error, 1)
	go func() {
		_, err := j.Append(context.Background(), sample("r", 3))
		failed <- err
	}()
	<-g.in
	bad := errors.New("a broken disk")
	g.fail.Store(&bad)
	g.open()
	if err := <-failed; !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	j.durable.mu.Lock()
	if n := len(j.durable.tail.batches); n != 0 {
		t.Errorf("%d batches are in the tail after a failed fsync", n)
	}
	j.durable.mu.Unlock()
	g.fail.Store(nil)
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	appendN(t, j, "r", 4, 1)
	// The disk did have the event, and a reader gets it after the restart.
	seqs, times := readN(t, r, 2)
	if seqs[0] != 4 || times[0] != sample("", 3).Time || seqs[1] != 5 || times[1] != sample("", 4).Time {
		t.Errorf("it reads %v", seqs)
	}
}
