package influx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// largeBatch returns enough points for two writes at the same time.
func largeBatch() []Point {
	points := make([]Point, splitFields+1000)
	for i := range points {
		points[i] = Point{Series: NewSeries("s", Tag{"host", fmt.Sprint("h", i)}), Fields: []Field{{"s", float64(i)}}, Time: noon.UnixNano()}
	}
	return points
}

// A point that is refused in either of the two writes is found at its index in the whole batch, and
// all other points are stored.
func TestLargeBatchRefusals(t *testing.T) {
	store, points := newFakeStore(), largeBatch()
	refused := map[float64]bool{7: true, 4500: true, 5999: true}
	store.refuse = func(p *Point) string {
		if refused[p.Fields[0].Value] {
			return "no"
		}
		return ""
	}
	s := newSink(store, PolicyRaw, nil, slog.New(slog.DiscardHandler), newSinkCounters(prometheus.NewRegistry(), "p"))
	refusals, err := s.write(t.Context(), points)
	if err != nil || len(refusals) != len(refused) {
		t.Fatalf("%+v, %v", refusals, err)
	}
	for _, r := range refusals {
		if r.to != r.from+1 || r.count != 1 || !refused[points[r.from].Fields[0].Value] {
			t.Errorf("%+v was not refused", r)
		}
	}
	if n := store.len(); n != len(points)-3 || s.tally != (tally{written: uint64(n), refused: 3}) {
		t.Errorf("%d points are stored, counted are %+v", n, s.tally)
	}
	if store.sizes[0] != len(points)/2 || store.sizes[1] != len(points)/2 {
		t.Errorf("writes of %v points", store.sizes[:2])
	}
}

// Either of the two writes may find the schema missing, and then the schema is made again. Either
// may fail, and then the batch is not taken.
func TestLargeBatchFailures(t *testing.T) {
	lost := &Error{Op: "write", Kind: Schema, Err: errors.New("database not found")}
	for _, first := range []bool{true, false} { // which half fails
		meets := func(p []Point) bool { return (p[0].Fields[0].Value == 0) == first }
		store, points, made := newFakeStore(), largeBatch(), 0
		store.before = func(p []Point) (int, error) {
			if made < 2 && meets(p) {
				return 0, lost
			}
			return 0, nil
		}
		s := newSink(store, PolicyRaw, func(context.Context) error { made++; return nil }, slog.New(slog.DiscardHandler), newSinkCounters(prometheus.NewRegistry(), "p"))
		if _, err := s.write(t.Context(), points); err != nil || made != 2 || store.len() != len(points) {
			t.Errorf("first half %v, schema gone: %v, made %d times, %d points stored", first, err, made, store.len())
		}

		store.before = func(p []Point) (int, error) {
			if meets(p) {
				return 10, errDown
			}
			return 0, nil
		}
		before := s.tally
		if _, err := s.write(t.Context(), points); !errors.Is(err, errDown) || s.tally != before {
			t.Errorf("first half %v, failing: %v, counted %+v", first, err, s.tally)
		}
	}
}
