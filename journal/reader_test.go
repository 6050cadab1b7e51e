package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

func readGap(t *testing.T, r *Reader, want GapError) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	recs, err := r.Read(ctx, 10)
	var gap *GapError
	if !errors.As(err, &gap) || *gap != want {
		t.Fatalf("got %d records, %v; want the gap %v", len(recs), err, &want)
	}
}

func TestReaderFollows(t *testing.T) { bothWays(t, readerFollows) }

func readerFollows(t *testing.T) {
	j := open(t, Options{})
	r := from1(t, j, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if recs, err := r.Read(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an empty journal gives %v, %v", recs, err)
	}
	for i := range 20 {
		got := make(chan error, 1)
		go func() {
			recs, err := r.Read(t.Context(), 100)
			if err == nil && (len(recs) != 1 || recs[0].Seq != uint64(i+1)) {
				err = fmt.Errorf("%d records from %d", len(recs), recs[0].Seq)
			}
			got <- err
		}()
		appendN(t, j, "r", i, 1)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
}

// Readers get events when they are durable, not when the server has them.
func TestReaderShowsDurableEventsOnly(t *testing.T) { bothWays(t, readerShowsDurableEventsOnly) }

func readerShowsDurableEventsOnly(t *testing.T) {
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync})
	appendN(t, j, "r", 0, 3)
	r := from1(t, j, 1)
	readN(t, r, 3)
	g.close()
	t.Cleanup(g.open)
	go func() { _, _ = j.Append(context.Background(), sample("r", 3)) }()
	<-g.in
	eventually(t, "the server has the event", func() bool {
		info, err := j.runs.current().stream.Info(t.Context())
		return err == nil && info.State.LastSeq == 4
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if recs, err := r.Read(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("before the fsync it reads %v, %v", recs, err)
	}
	if st, err := j.State(t.Context()); err != nil || st.LastSeq != 3 {
		t.Fatalf("before the fsync the state is %+v, %v", st, err)
	}
	g.open()
	if seqs, _ := readN(t, r, 1); seqs[0] != 4 {
		t.Fatal(seqs)
	}
}

func TestReadersDoNotDisturbEachOther(t *testing.T) { bothWays(t, readersDoNotDisturbEachOther) }

func readersDoNotDisturbEachOther(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	const n = 3000
	slow := from1(t, j, 1) // never read
	var wg sync.WaitGroup
	for g := range 8 {
		r := from1(t, j, 1)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for next := uint64(1); next <= n; {
				recs, err := r.Read(t.Context(), 1+g*100)
				if err != nil {
					t.Error(err)
					return
				}
				for _, rec := range recs {
					if rec.Seq != next || rec.Event.Time != sample("", int(next-1)).Time {
						t.Errorf("reader %d: number %d where %d should be", g, rec.Seq, next)
						return
					}
					next++
				}
			}
		}()
	}
	appendN(t, j, "r", 0, n)
	wg.Wait()
	if p := slow.Pending(); p != n {
		t.Errorf("the reader that did not read has %d pending", p)
	}
}

func TestReadFromTime(t *testing.T) { bothWays(t, readFromTime) }

func readFromTime(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 10)
	st, err := j.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	middle := st.LastTime.Add(1)
	appendN(t, j, "r", 10, 10)
	r, err := j.ReadFromTime(middle)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if seqs, _ := readN(t, r, 10); seqs[0] != 11 {
		t.Errorf("from %v it begins with number %d", middle, seqs[0])
	}
	future, err := j.ReadFromTime(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = future.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if recs, err := future.Read(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("from the future it reads %v, %v", recs, err)
	}
	if p := future.Pending(); p != 0 {
		t.Errorf("from the future %d are pending", p)
	}
}

// A reader that begins beyond the last sequence must not skip events until its number comes.
func TestReadFromBehindTheEnd(t *testing.T) { bothWays(t, readFromBehindTheEnd) }

func readFromBehindTheEnd(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 5)
	r := from1(t, j, 100)
	readGap(t, r, GapError{From: 6, To: 99, Reason: GapRewound})
	appendN(t, j, "r", 5, 1)
	if seqs, _ := readN(t, r, 1); seqs[0] != 6 {
		t.Fatalf("then it reads %d", seqs[0])
	}
	if got := value(t, j.m.gapEvents.WithLabelValues("rewound")); got != 94 {
		t.Errorf("%v counted", got)
	}
	// A reader that begins at the next sequence has no gap.
	r = from1(t, j, 7)
	appendN(t, j, "r", 6, 1)
	if seqs, _ := readN(t, r, 1); seqs[0] != 7 {
		t.Fatal(seqs)
	}
}

func TestGaps(t *testing.T) { bothWays(t, gaps) }

func gaps(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 100)
	purge(t, j, 11) // as retention does
	r := from1(t, j, 5)
	readGap(t, r, GapError{From: 5, To: 10, Reason: GapRetention})
	if seqs, _ := readN(t, r, 90); seqs[0] != 11 || seqs[89] != 100 {
		t.Fatalf("after the gap it reads %d to %d", seqs[0], seqs[89])
	}
	readGap(t, from1(t, j, 1), GapError{From: 1, To: 10, Reason: GapRetention})
	// A reader from the oldest event on has no gap.
	if seqs, _ := readN(t, from1(t, j, 0), 90); seqs[0] != 11 {
		t.Fatalf("from the oldest it reads %d", seqs[0])
	}
	// Retention drops events that this reader has not read yet.
	slow := from1(t, j, 20)
	readN(t, slow, 1)
	slow.drop() // the events that it had in memory
	purge(t, j, 51)
	readGap(t, slow, GapError{From: 21, To: 50, Reason: GapRetention})
	readN(t, slow, 50)
	if got := value(t, j.m.gapEvents.WithLabelValues("retention")); got != 46 {
		t.Errorf("%v counted", got)
	}
}

// purge drops every event before seq. The tail is emptied, as if the events were as old as those
// that retention drops.
func purge(t *testing.T, j *Journal, seq uint64) {
	t.Helper()
	j.durable.forget()
	m, err := j.runs.current().nc.Request("$JS.API.STREAM.PURGE.PULSE", fmt.Appendf(nil, `{"seq":%d}`, seq), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(m.Data, []byte(`"success":true`)) {
		t.Fatalf("purge: %s", m.Data)
	}
}

// A reader whose position and all later events were dropped learns that at once, because no further
// event comes that would show it.
func TestAllExpired(t *testing.T) { bothWays(t, allExpired) }

func allExpired(t *testing.T) {
	var log bytes.Buffer // read when the journal is closed
	j := open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	appendN(t, j, "r", 0, 10)
	overtaken := from1(t, j, 1)
	readN(t, overtaken, 3)
	caught := from1(t, j, 1)
	readN(t, caught, 10)
	purge(t, j, 11) // as retention does
	st, err := j.State(t.Context())
	if err != nil || st.FirstSeq != 11 || st.LastSeq != 10 || st.Messages != 0 || !st.FirstTime.IsZero() {
		t.Fatalf("%+v, %v", st, err)
	}
	r := from1(t, j, 5)
	readGap(t, r, GapError{From: 5, To: 10, Reason: GapRetention})
	// A reader with a consumer checks when heartbeats come instead of events. Its events in memory
	// are dropped here.
	overtaken.drop()
	if err := overtaken.connect(t.Context()); err == nil {
		t.Error("a consumer was made where nothing will come")
	}
	readGap(t, overtaken, GapError{From: 4, To: 10, Reason: GapRetention})
	if caught.pull != nil && caught.stuck(t.Context()) {
		t.Error("a reader that has seen everything makes another consumer")
	}
	for _, r := range []*Reader{r, overtaken, caught} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := r.Read(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		if p := r.Pending(); p != 0 {
			t.Errorf("%d pending, and nothing will come", p)
		}
	}
	appendN(t, j, "r", 10, 1)
	for _, r := range []*Reader{r, overtaken, caught} {
		if seqs, _ := readN(t, r, 1); seqs[0] != 11 {
			t.Errorf("then it reads %d", seqs[0])
		}
	}
	if got := value(t, j.m.gapEvents.WithLabelValues("retention")); got != 13 {
		t.Errorf("%v counted", got)
	}
	closeJournal(t, j)
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("it logs errors:\n%s", &log)
	}
}

// Retention has dropped the events of a reader with a consumer, or its last events are missing.
// Such a reader gets only heartbeats.
func TestStuck(t *testing.T) {
	var log bytes.Buffer
	j := open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), noTail: true})
	appendN(t, j, "r", 0, 10)
	r := from1(t, j, 1)
	readN(t, r, 10)
	r.next = 8 // as if 8 to 10 existed but had not come
	if r.stuck(t.Context()) {
		t.Error("another consumer is made where nothing is pending")
	}
	purge(t, j, 11)
	if !r.stuck(t.Context()) {
		t.Error("what was dropped is waited for")
	}
	closeJournal(t, j)
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("it logs errors:\n%s", &log)
	}
}

// The server deletes a consumer that is not used. Its reader still knows how many events are
// pending, and makes another consumer.
func TestPendingWithoutConsumer(t *testing.T) {
	j := open(t, Options{noTail: true})
	appendN(t, j, "r", 0, 10)
	r := from1(t, j, 1)
	readN(t, r, 3)
	if err := j.runs.current().js.DeleteConsumer(t.Context(), StreamName, r.pull.name); err != nil {
		t.Fatal(err)
	}
	if p := r.Pending(); p != 7 {
		t.Errorf("%d pending of 7", p)
	}
	readN(t, r, 7)
	r.drop()
	if p := r.Pending(); p != 0 {
		t.Errorf("%d pending at the end", p)
	}
	if p := from1(t, j, 9).Pending(); p != 2 {
		t.Errorf("%d pending from 9 on", p)
	}
	if p := from1(t, j, 100).Pending(); p != 0 {
		t.Errorf("%d pending from behind the end on", p)
	}
	appendN(t, j, "r", 10, 1)
	if seqs, _ := readN(t, r, 1); seqs[0] != 11 {
		t.Error(seqs)
	}
}

// While the server does not answer, no unread event is taken for read.
func TestPendingWithoutServer(t *testing.T) { bothWays(t, pendingWithoutServer) }

func pendingWithoutServer(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 10)
	r := from1(t, j, 9)
	run := j.runs.current()
	j.runs.set(nil)
	defer j.runs.set(run)
	for from, want := range map[uint64]uint64{0: 10, 1: 10, 9: 2, 10: 1, 11: 0, 100: 0} {
		r.seen = from
		if p := r.Pending(); p != want {
			t.Errorf("%d pending from %d on, want %d", p, from, want)
		}
	}
}

func TestReaderClose(t *testing.T) { bothWays(t, readerClose) }

func readerClose(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 1)
	r := from1(t, j, 1)
	readN(t, r, 1)
	errs := make(chan error, 1)
	go func() { _, err := r.Read(context.Background(), 1); errs <- err }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("a Read that waited: %v", err)
	}
	other := from1(t, j, 1)
	readN(t, other, 1)
	go func() { _, err := other.Read(context.Background(), 1); errs <- err }()
	closeJournal(t, j)
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("a Read that waited when the journal was closed: %v", err)
	}
}

// A message that is not an event of Pulse is a record with an error, and reading continues.
func TestUndecodable(t *testing.T) { bothWays(t, undecodable) }

func undecodable(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 1)
	run := j.runs.current()
	for _, data := range []string{`{"v":1,`, `{"v":3,"relay":"x"}`} {
		if _, err := run.js.Publish(t.Context(), codec.ReadingsSubject+"x", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	// The journal did not expect these messages: it notices them and restarts its server.
	_, err := j.Append(t.Context(), sample("r", 1))
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("an append after a foreign write: %v", err)
	}
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	appendN(t, j, "r", 2, 1)
	if took, past, err := j.Spooled(t.Context(), "x"); err != nil || took != (codec.Spool{}) || past != took {
		t.Errorf("the spool of the relay whose newest event is unreadable: %v, %v, %v", took, past, err)
	}
	r := from1(t, j, 1)
	var bad []uint64
	for n := 0; n < 5; {
		recs, err := r.Read(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			n++
			if rec.Err != nil {
				if !errors.Is(rec.Err, codec.ErrDecode) || rec.Event != nil {
					t.Errorf("%+v", rec)
				}
				bad = append(bad, rec.Seq)
			}
		}
	}
	if len(bad) != 2 || bad[0] != 2 || bad[1] != 3 {
		t.Errorf("undecodable are %v", bad)
	}
	if got := value(t, j.m.undecodable); got != 2 {
		t.Errorf("%v counted", got)
	}
}
