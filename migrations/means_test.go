package migrations_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// means is a database with rows and a state file.
type means struct {
	store influx.Store
	state *migrations.State
	o     migrations.TakeOverOptions
}

func newMeans(t *testing.T, now time.Time) *means {
	t.Helper()
	m := &means{}
	var err error
	if m.store, err = embedded.Open(embedded.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.store.Close() })
	if m.state, err = migrations.Open(t.TempDir(), migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.state.Close() })
	if _, err := migrations.EnsureInflux(t.Context(), m.store, migrations.Schema{}, nil); err != nil {
		t.Fatal(err)
	}
	m.o = migrations.TakeOverOptions{DB: m.state.DB, Influx: m.store, Write: adapter(m.store, nil), Window: 15 * time.Minute,
		Now: func() time.Time { return now }}
	return m
}

// write writes a row. If count is 0, the row holds only a mean.
func (m *means) write(t *testing.T, at time.Time, count float64, values ...float64) {
	t.Helper()
	fields := []influx.Field{{Key: "cpu", Value: values[0]}}
	if count > 0 {
		fields = append(fields, influx.Field{Key: "cpu:count", Value: count})
		for i, key := range []string{"cpu:sum", "cpu:min", "cpu:max", "cpu:last"} {
			fields = append(fields, influx.Field{Key: key, Value: values[min(i+1, len(values)-1)]})
		}
	}
	if _, err := m.store.Write(t.Context(), influx.PolicyAggregate, []influx.Point{
		{Series: influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: "a"}), Time: at.UnixNano(), Fields: fields}}); err != nil {
		t.Fatal(err)
	}
}

// set changes the state file as earlier releases did.
func (m *means) set(t *testing.T, takeOver string, windows ...time.Time) {
	t.Helper()
	err := m.state.DB.Update(func(tx *bbolt.Tx) error {
		for _, w := range windows {
			key := binary.BigEndian.AppendUint64(nil, uint64(w.UnixNano())^(1<<63))
			if err := tx.Bucket([]byte("windows")).Put(key, []byte{1}); err != nil {
				return err
			}
		}
		if takeOver == "" {
			return nil
		}
		return tx.Bucket([]byte("meta")).Put([]byte("takeover_02"), []byte(takeOver))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// want calls MeansUntil twice, because a result that was found once stays.
func (m *means) want(t *testing.T, want time.Time) {
	t.Helper()
	ns := int64(0)
	if !want.IsZero() {
		ns = want.UnixNano()
	}
	for range 2 {
		got, err := migrations.MeansUntil(t.Context(), m.o)
		if err != nil || got != ns {
			t.Fatalf("until %v, %v, expected %v", time.Unix(0, got).UTC(), err, want)
		}
		m.o.Influx, m.o.Now = nil, nil // not needed any more
	}
}

func TestMeansUntil(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Hour).Add(-40 * time.Minute) // 20 minutes past an hour
	window := now.Truncate(15 * time.Minute)
	day := 24 * time.Hour
	t.Run("the first start on a database of 0.2", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 0, 5)
		m.want(t, window)
	})
	t.Run("during the take-over", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 1, 5)
		began := now.Add(-2 * time.Hour)
		m.set(t, fmt.Sprint("12 ", began.UnixNano()))
		m.want(t, began.Truncate(15*time.Minute))
	})
	t.Run("taken over by an earlier release", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-2*day), 1, 5)
		m.write(t, window.Add(-day), 1, 7)
		m.write(t, window.Add(-day+15*time.Minute), 15, 70, 1050, 60, 80, 70)
		// One window had a wrong clock.
		m.set(t, "done", time.Unix(0, 0), window.Add(-day+15*time.Minute), window)
		m.want(t, window.Add(-day+15*time.Minute))
	})
	t.Run("taken over, and nothing of ours yet", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 1, 5)
		m.set(t, "done")
		m.want(t, window)
	})
	t.Run("never 0.2, the oldest window had one reading", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 1, 5)
		m.set(t, "done", window.Add(-day), window)
		m.want(t, time.Time{})
	})
	t.Run("never 0.2, the state file is new", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 3, 5, 15, 4, 6, 5)
		m.want(t, time.Time{})
	})
	t.Run("empty", func(t *testing.T) {
		newMeans(t, now).want(t, time.Time{})
	})
	t.Run("InfluxDB is away", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 0, 5)
		m.o.Influx = &failing{m.store, 1}
		if _, err := migrations.MeansUntil(t.Context(), m.o); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		m.o.Influx = m.store
		m.want(t, window)
	})
	t.Run("the state file is damaged", func(t *testing.T) {
		m := newMeans(t, now)
		m.write(t, window.Add(-day), 0, 5)
		m.set(t, "x y")
		if _, err := migrations.MeansUntil(t.Context(), m.o); err == nil {
			t.Fatal("no error")
		}
	})
}
