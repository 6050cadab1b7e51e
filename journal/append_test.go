package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal/codec"
)

// fsyncGate is an fsync that a test can delay, count and make fail.
type fsyncGate struct {
	calls atomic.Int64
	fail  atomic.Pointer[error]
	mu    sync.Mutex
	hold  chan struct{} // nil: do not wait
	in    chan struct{} // gets one for each call that waits
}

func newFsyncGate() *fsyncGate { return &fsyncGate{in: make(chan struct{}, 1000)} }

func (g *fsyncGate) fsync(f *os.File) error {
	g.calls.Add(1)
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold != nil {
		g.in <- struct{}{}
		<-hold
	}
	if err := g.fail.Load(); err != nil {
		return *err
	}
	return f.Sync()
}

func (g *fsyncGate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = make(chan struct{})
}

func (g *fsyncGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hold != nil {
		close(g.hold)
		g.hold = nil
	}
}

// queued waits until n requests are in the queue.
func queued(t *testing.T, j *Journal, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests queued", n), func() bool { return len(j.queue) >= n })
}

func TestGroupCommit(t *testing.T) {
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync})
	g.close()
	t.Cleanup(g.open)
	const n = 500
	seqs := make([]uint64, n)
	var wg sync.WaitGroup
	add := func(i int) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var err error
			if seqs[i], err = j.Append(t.Context(), sample(fmt.Sprintf("relay%d", i), i)); err != nil {
				t.Error(err)
			}
		}()
	}
	add(0)
	<-g.in // the first event is being synced alone
	for i := 1; i < n; i++ {
		add(i)
	}
	queued(t, j, n-1)
	before := g.calls.Load()
	g.open()
	wg.Wait()
	// The rest was one batch: one fsync of the block, and one of the directory if a block was
	// added.
	if calls := g.calls.Load() - before; calls > 2 {
		t.Errorf("%d appends that waited together took %d fsyncs", n-1, calls)
	}
	if got := value(t, j.m.batches); got != 2 {
		t.Errorf("%v batches", got)
	}
	seen := make(map[uint64]bool)
	for _, s := range seqs {
		if s < 1 || s > n || seen[s] {
			t.Fatalf("number %d is wrong or there twice", s)
		}
		seen[s] = true
	}
	// Append returned the sequence of each event.
	r := from1(t, j, 1)
	for got := 0; got < n; {
		recs, err := r.Read(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			if want := fmt.Sprintf("relay%d", rec.Event.Time-sample("", 0).Time); rec.Event.Relay != want || seqs[rec.Event.Time-sample("", 0).Time] != rec.Seq {
				t.Fatalf("number %d holds the event of %s", rec.Seq, rec.Event.Relay)
			}
			got++
		}
	}
}

func TestBatchesAreBounded(t *testing.T) {
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync})
	g.close()
	t.Cleanup(g.open)
	var wg sync.WaitGroup
	for i := range 2*maxBatchEvents + 1 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := j.Append(t.Context(), sample("r", i)); err != nil {
				t.Error(err)
			}
		}()
		if i == 0 {
			<-g.in
		}
	}
	queued(t, j, 2*maxBatchEvents)
	g.open()
	wg.Wait()
	if got := value(t, j.m.batches); got != 3 {
		t.Errorf("1 and 2000 events went in %v batches", got)
	}
}

// Events of one relay that are appended one after the other are read in that order, whatever other
// relays append.
func TestOrderPerRelay(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	const relays, each = 50, 100
	var wg sync.WaitGroup
	for g := range relays {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				if _, err := j.Append(t.Context(), sample(fmt.Sprintf("relay%d", g), i)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	next := make(map[string]int64)
	r := from1(t, j, 1)
	for n := 0; n < relays*each; {
		recs, err := r.Read(t.Context(), 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			n++
			if rec.Seq != uint64(n) {
				t.Fatalf("record %d has number %d", n, rec.Seq)
			}
			i := rec.Event.Time - sample("", 0).Time
			if i != next[rec.Event.Relay] {
				t.Fatalf("%s: event %d comes where %d should", rec.Event.Relay, i, next[rec.Event.Relay])
			}
			next[rec.Event.Relay]++
		}
	}
	wg.Wait()
}

func TestAppendCanceled(t *testing.T) {
	g := newFsyncGate()
	reg := prometheus.NewRegistry()
	j := open(t, Options{fsync: g.fsync, Registerer: reg})
	g.close()
	t.Cleanup(g.open)
	ctx, cancel := context.WithCancel(t.Context())
	taken, waiting := make(chan error, 1), make(chan error, 1)
	go func() { _, err := j.Append(ctx, sample("taken", 1)); taken <- err }()
	<-g.in
	go func() { _, err := j.Append(ctx, sample("waiting", 2)); waiting <- err }()
	queued(t, j, 1)
	cancel()
	// The event that was being written may be stored or not; the event that waited is not stored.
	if err := <-taken; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled while it was written: %v", err)
	}
	if err := <-waiting; errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled while it waited: %v", err)
	}
	g.open()
	seq, err := j.Append(t.Context(), sample("after", 3))
	if err != nil || seq != 2 {
		t.Fatalf("the next event has number %d, %v; the canceled one must not have been written", seq, err)
	}
	if got := value(t, j.m.lostEvents.WithLabelValues("canceled")); got != 1 {
		t.Errorf("%v events counted as canceled", got)
	}
	if _, err := j.Append(ctx, sample("dead", 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v", err)
	}
}

func TestAppendRefusesWhatCannotBeStored(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	nan := sample("r", 1)
	nan.Collectors[0].Stats[0].Value = math.NaN()
	large := sample("r", 1)
	large.Collectors[0].Name = strings.Repeat("x", MaxEventBytes)
	for _, c := range []struct {
		e    *codec.Event
		kind error
	}{
		{nan, codec.ErrNotFinite}, {large, ErrTooLarge}, {sample("", 1), ErrNoRelay}, {sample(strings.Repeat("%", maxSubject), 1), ErrTooLarge},
	} {
		_, err := j.Append(t.Context(), c.e)
		var typed *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &typed) {
			t.Errorf("got %v, want %v", err, c.kind)
		}
	}
	if got := value(t, j.m.lostReadings.WithLabelValues("invalid")); got != 40 {
		t.Errorf("%v readings counted", got)
	}
	// The largest event that fits is stored, whatever the limits of a batch are.
	large.Collectors[0].Name = ""
	data, _ := codec.EncodeEvent(nil, large)
	large.Collectors[0].Name = strings.Repeat("x", MaxEventBytes-len(data))
	for range 10 {
		if _, err := j.Append(t.Context(), large); err != nil {
			t.Fatal(err)
		}
	}
	readN(t, from1(t, j, 1), 10)
}

func TestRelayEvents(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	strange := "web 1.é*>%"
	events := map[codec.RelayEventKind]codec.RelayEvent{
		codec.RelayConnected:    {Time: 1, Kind: codec.RelayConnected, Addr: "10.0.0.7:4711"},
		codec.RelayDisconnected: {Time: 2, Kind: codec.RelayDisconnected, Reason: "nothing read for 60s"},
		codec.RelayAdded:        {Time: 3, Kind: codec.RelayAdded, Collector: "cpu", Tags: []string{"service:web1", "guy"}},
		codec.RelayOverride:     {Time: 4, Kind: codec.RelayOverride, Duration: time.Minute, Interval: 1500 * time.Millisecond},
	}
	for _, e := range events {
		e.Relay = strange
		if _, err := j.AppendRelayEvent(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Append(t.Context(), sample(strange, 1)); err != nil {
		t.Fatal(err)
	}
	r := from1(t, j, 1)
	n := 0
	for n < len(events)+1 {
		recs, err := r.Read(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			n++
			switch {
			case rec.Relay != nil:
				want := events[rec.Relay.Kind]
				want.Relay = strange
				if len(want.Tags) == 0 {
					want.Tags = rec.Relay.Tags[:0]
				}
				if !reflect.DeepEqual(rec.Relay, &want) || rec.Event != nil || rec.Err != nil {
					t.Errorf("%d: %+v", rec.Seq, rec)
				}
			case rec.Event == nil || rec.Event.Relay != strange:
				t.Errorf("%d: %+v", rec.Seq, rec)
			}
		}
	}
}

func TestCloseWithWaitingAppends(t *testing.T) {
	g := newFsyncGate()
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, fsync: g.fsync})
	g.close()
	t.Cleanup(g.open)
	errs := make(chan error, 100)
	for i := range 100 {
		go func() { _, err := j.Append(context.Background(), sample("r", i)); errs <- err }()
		if i == 0 {
			<-g.in
		}
	}
	queued(t, j, 99)
	done := make(chan struct{})
	go func() { defer close(done); closeJournal(t, j) }()
	<-j.closing
	if _, err := j.Append(context.Background(), sample("late", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("an append after Close: %v", err)
	}
	g.open()
	<-done
	for range 100 {
		if err := <-errs; err != nil {
			t.Errorf("an append that waited at Close: %v", err)
		}
	}
	if err := j.Healthy(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed and healthy: %v", err)
	}
	if _, err := j.State(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("State: %v", err)
	}
	if _, err := j.ReadFrom(1); !errors.Is(err, ErrClosed) {
		t.Errorf("ReadFrom: %v", err)
	}
	j = open(t, Options{Dir: dir})
	if st, err := j.State(t.Context()); err != nil || st.LastSeq != 100 {
		t.Errorf("after Close and Open: %+v, %v", st, err)
	}
}

// A Close whose context has ended does not wait for the queue, and its error says so.
func TestCloseDeadline(t *testing.T) {
	g := newFsyncGate()
	j, err := tryOpen(t, Options{fsync: g.fsync})
	if err != nil {
		t.Fatal(err)
	}
	g.close()
	errs := make(chan error, 2)
	go func() { _, err := j.Append(context.Background(), sample("r", 1)); errs <- err }()
	<-g.in
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	closed := make(chan error, 1)
	go func() { closed <- j.Close(ctx) }()
	<-j.ctx.Done()
	g.open() // the disk comes back
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	if err := <-errs; err != nil && !errors.Is(err, ErrUnknown) {
		t.Errorf("the append: %v", err)
	}
	j.closeErr = nil // for the cleanup, which gets the same error again
}
