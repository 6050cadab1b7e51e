package journal

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// shown is an Outside whose clients get events when the server has them. No client connects.
type shown struct{}

func (shown) Configure(*server.Options, string) (exports, accounts string) {
	return "", "  OTHER { }\n"
}
func (shown) Admit(server.ClientAuthentication) (user string, ok bool) { return "", false }
func (shown) Log(string) bool                                          { return false }
func (shown) Open(*Run) (OutsideRun, error)                            { return shown{}, nil }
func (shown) Committed([]Message)                                      {}
func (shown) Close()                                                   {}

// openShown opens a journal whose clients may get events.
func openShown(tb testing.TB, o Options) *Journal {
	tb.Helper()
	o.Outside = shown{}
	return open(tb, o)
}

// appendMany appends n events of a second relay concurrently.
func appendMany(tb testing.TB, j *Journal, n int) {
	tb.Helper()
	var group errgroup.Group
	group.SetLimit(256)
	for i := range n {
		group.Go(func() error {
			_, err := j.Append(tb.Context(), sample("web2", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		tb.Fatal(err)
	}
}

// take fetches n messages and acknowledges them.
func take(tb testing.TB, c jetstream.Consumer, n int) (seqs []uint64) {
	tb.Helper()
	batch, err := c.Fetch(n, jetstream.FetchMaxWait(30*time.Second))
	if err != nil {
		tb.Fatal(err)
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			tb.Fatal(err)
		}
		if err := m.DoubleAck(tb.Context()); err != nil {
			tb.Fatalf("acknowledging %d: %v", meta.Sequence.Stream, err)
		}
		seqs = append(seqs, meta.Sequence.Stream)
	}
	if len(seqs) != n {
		tb.Fatalf("%d of %d messages", len(seqs), n)
	}
	return seqs
}

// If a power cut removes an event that a client got, no other event gets its number. So the client
// skips no event, whether it keeps its position itself or in a consumer. Readers have no gap.
func TestNumbersAreNotUsedTwice(t *testing.T) {
	for name, sync := range map[string]SyncPolicy{"always": SyncAlways(), "interval": SyncEvery(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			dir, image := t.TempDir(), t.TempDir()
			j := openShown(t, Options{Dir: dir, Sync: sync})
			appendN(t, j, "web1", 0, 10)
			// The state of the disk when the power fails.
			if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			c, err := j.runs.current().stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "archive", AckPolicy: jetstream.AckExplicitPolicy})
			if err != nil {
				t.Fatal(err)
			}
			appendMany(t, j, 500)
			shown := take(t, c, 510)[509]
			closeJournal(t, j)

			j = openShown(t, Options{Dir: image, Sync: sync})
			if seq := appendN(t, j, "web1", 100, 1); seq <= shown {
				t.Fatalf("the next event gets the number %d, which a client knows as another's", seq)
			}
			c, err = j.runs.current().stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
				DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: shown + 1, FilterSubject: "pulse.readings.>"})
			if err != nil {
				t.Fatal(err)
			}
			last := take(t, c, 1)[0]
			r := from1(t, j, 1)
			seqs, _ := readN(t, r, int(last))
			if seqs[len(seqs)-1] != last || r.Pending() != 0 {
				t.Errorf("a reader ends with %d, and %d pending", seqs[len(seqs)-1], r.Pending())
			}
			if l := j.Losses(); l.Events != 0 || j.Report().Gap != nil {
				t.Errorf("%+v %v", l, j.Report().Gap)
			}
		})
	}
}

// After a start that left numbers out, and a stop without an event, the marker still matches the
// journal at the next start, however the journal was stopped.
func TestStartAfterNumbersWereLeftOut(t *testing.T) {
	dir, image, marker := t.TempDir(), t.TempDir(), &memMarker{}
	j := openShown(t, Options{Dir: dir, Marker: marker})
	appendN(t, j, "web1", 0, 10)
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil { // as after a kill
		t.Fatal(err)
	}
	closeJournal(t, j)
	last := uint64(0)
	for range 3 {
		j = openShown(t, Options{Dir: image, Marker: marker})
		s, err := j.State(t.Context())
		if err != nil || s.LastSeq < 10+maxBatchEvents || last > 0 && s.LastSeq != last {
			t.Fatalf("%+v, %v", s, err)
		}
		if s.Messages != 10 {
			t.Errorf("numbers that were left out are counted: %d", s.Messages)
		}
		last = s.LastSeq
		closeJournal(t, j)
	}
}

// Numbers are left out only after an unclean stop of a journal that let clients in.
func TestNumbersAreLeftOutOnlyIfShown(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want <= 4; want++ {
		j := openShown(t, Options{Dir: dir})
		if seq := appendN(t, j, "web1", 0, 1); seq != want {
			t.Errorf("after a clean stop the next number is %d instead of %d", seq, want)
		}
		closeJournal(t, j)
	}
	j := open(t, Options{Dir: dir})
	appendN(t, j, "web1", 0, 1)
	image := t.TempDir()
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	j = openShown(t, Options{Dir: image})
	if seq := appendN(t, j, "web1", 0, 1); seq != 6 {
		t.Errorf("nobody was let in, and the next number is %d", seq)
	}
	// Clients were let in, so the next start leaves numbers out, even without clients, and only
	// once.
	image = t.TempDir()
	if err := os.CopyFS(image, os.DirFS(j.o.Dir)); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	for range 2 {
		j = open(t, Options{Dir: image})
		if seq := j.runs.current().last; seq != 6+maxBatchEvents {
			t.Errorf("the journal ends with %d", seq)
		}
		if _, err := os.Stat(shownPath(image)); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		closeJournal(t, j)
	}
}

// Numbers of last events that were lost to damage are left out too, so that they are not used
// again.
func TestNumbersOfALostEndAreNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	store := &memMarker{}
	j := openShown(t, Options{Dir: dir, Marker: store})
	appendN(t, j, "web1", 0, 10)
	image := t.TempDir()
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	appendMany(t, j, 3000)
	closeJournal(t, j)
	j = openShown(t, Options{Dir: image, Marker: store})
	if gap := j.Report().Gap; gap == nil || gap.From != 11 || gap.To != 3010 {
		t.Fatal(gap)
	}
	if seq := appendN(t, j, "web1", 0, 1); seq <= 3010 {
		t.Errorf("the next number is %d", seq)
	}
}

// A write error happens while clients are let in, and then the disk has fewer events than the
// clients got. The numbers are not used again, readers continue without a gap, and the lost events
// are counted.
func TestNumbersLostWhileRunningAreNotUsedAgain(t *testing.T) {
	g := newFsyncGate()
	dir := t.TempDir()
	j := openShown(t, Options{Dir: dir, fsync: g.fsync, retryMin: 5 * time.Millisecond})
	appendN(t, j, "r", 0, 100)
	r := from1(t, j, 1)
	readN(t, r, 100)
	g.loseEnd(t, j, dir, 90)
	if seq := appendN(t, j, "new", 1000, 1); seq != 102 { // 101 was written and clients may have got it
		t.Fatalf("the next number is %d", seq)
	}
	if seqs, _ := readN(t, r, 2); seqs[0] != 101 || seqs[1] != 102 {
		t.Errorf("the reader goes on with %v", seqs)
	}
	if l := j.Losses(); l.Events != 10 {
		t.Errorf("%+v", l)
	}
	if s, err := j.State(t.Context()); err != nil || s.Messages != 91 || s.LastSeq != 102 {
		t.Errorf("%+v, %v", s, err)
	}
}
