package journal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nanopack/pulse/journal/codec"
)

// ofEdge is the n-th record of an edge, as a hub appends it.
func ofEdge(edge string, n int) Record {
	if n%5 == 4 {
		return Record{Relay: &codec.RelayEvent{Relay: "web.1", Time: int64(n + 1), Kind: codec.RelayConnected, Edge: edge, Origin: int64(n + 1)}}
	}
	e := sample("web.1", n)
	e.Edge, e.Origin, e.Past = edge, int64(n+1), n%7 == 6
	return Record{Event: e}
}

func ofEdges(edge string, from, n int) (records []Record) {
	for i := range n {
		records = append(records, ofEdge(edge, from+i))
	}
	return records
}

func (r Record) origin() int64 {
	if r.Event != nil {
		return r.Event.Origin
	}
	return r.Relay.Origin
}

// What comes from edges is stored in order and found again by its edge, beside relays of the hub with
// the same ids.
func TestAppendInOrder(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	appendN(t, j, "web.1", 0, 3)
	for _, records := range [][]Record{ofEdges("ams1", 0, 2500), ofEdges("fra1", 0, 10), nil} {
		if n, err := j.AppendInOrder(t.Context(), records); n != len(records) || err != nil {
			t.Fatal(n, err)
		}
	}
	appendN(t, j, "web.1", 3, 1)
	for range 2 {
		for _, c := range []struct {
			edge   string
			seq    uint64 // 0: the last
			want   int64  // 0: none
			record uint64
		}{
			{"ams1", 0, 2500, 2503}, {"fra1", 0, 10, 2513}, {"ams", 0, 0, 0},
			{"ams1", 1, 1, 4}, {"ams1", 5, 2, 5}, {"ams1", 2504, 0, 0}, {"fra1", 1, 1, 2504}, {"fra1", 2514, 0, 0},
		} {
			r, ok, err := j.LastOf(t.Context(), c.edge)
			if c.seq > 0 {
				r, ok, err = j.NextOf(t.Context(), c.edge, c.seq)
			}
			if err != nil || ok != (c.want > 0) || ok && (r.Err != nil || r.origin() != c.want || r.Seq != c.record) {
				t.Errorf("%+v: %+v, %v, %v", c, r, ok, err)
			}
		}
		n := int64(0)
		err := j.Range(t.Context(), Span{First: 4, Last: 2503}, func(records []Record, gap *GapError) error {
			for _, r := range records {
				if n++; r.Err != nil || r.origin() != n || gap != nil {
					return fmt.Errorf("record %d: %+v %v", n, r, gap)
				}
				if want := ofEdge("ams1", int(n-1)).Event; want != nil && (r.Event.Key() != want.Key() || r.Event.Past != want.Past) {
					return fmt.Errorf("record %d: %+v", n, r.Event)
				}
			}
			return nil
		})
		if err != nil || n != 2500 {
			t.Error(n, err)
		}
		closeJournal(t, j)
		j = open(t, Options{Dir: dir})
	}
}

// After a record that cannot be stored none of the same call is, whatever stands between: a record
// that the codec refuses, a full disk, or a failed write.
func TestAppendInOrderStops(t *testing.T) {
	disk := full{}
	disk.free.Store(50 << 30)
	g := newFsyncGate()
	j := open(t, Options{statfs: disk.statfs, fsync: g.fsync, queue: 1 << 10})
	records := ofEdges("ams1", 0, 20)
	records[7].Event.Relay = ""
	if n, err := j.AppendInOrder(t.Context(), records); n != 7 || !errors.Is(err, ErrNoRelay) || !Unfit(err) {
		t.Errorf("a record without a relay: %d, %v", n, err)
	}
	last := func(want int64) {
		t.Helper()
		r, ok, err := j.LastOf(t.Context(), "ams1")
		if err != nil || want > 0 != ok || ok && r.origin() != want {
			t.Errorf("the last is %+v, %v, %v, not %d", r, ok, err, want)
		}
	}
	last(7)

	// The disk fills while the run is on its way, and is free again before its last part comes.
	g.close()
	var stored int
	done := make(chan error, 1)
	go func() {
		n, err := j.AppendInOrder(t.Context(), ofEdges("ams1", 7, 3500))
		stored = n
		done <- err
	}()
	queued(t, j, 1024)
	disk.free.Store(0)
	g.open()
	if err := <-done; !errors.Is(err, ErrDiskFull) || Unfit(err) {
		t.Errorf("a full disk: %v", err)
	}
	disk.free.Store(50 << 30)
	r, ok, err := j.LastOf(t.Context(), "ams1")
	if err != nil || !ok || r.origin() >= 3507 || r.origin() != int64(7+stored) || r.Seq != uint64(r.origin()) {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	if n, err := j.AppendInOrder(t.Context(), ofEdges("ams1", int(r.origin()), 10)); n != 10 || err != nil {
		t.Error(n, err)
	}
	last(r.origin() + 10)
}
