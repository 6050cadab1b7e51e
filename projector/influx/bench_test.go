package influx

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// nullStore takes everything.
type nullStore struct{}

func (nullStore) Flush(context.Context, Policy) error  { return nil }
func (nullStore) Ping(context.Context) (string, error) { return "", nil }
func (nullStore) Write(context.Context, Policy, []Point) (WriteResult, error) {
	return WriteResult{}, nil
}
func (nullStore) Query(context.Context, string, map[string]any) ([]models.Row, error) {
	return nil, nil
}
func (nullStore) Read(context.Context, ReadRequest, func(ReadResult) error) error { return nil }
func (nullStore) Close() error                                                    { return nil }

// fleetRecords returns one event of each relay.
func fleetRecords(relays, stats int, at time.Time) []journal.Record {
	var records []journal.Record
	for i := range relays {
		e := event(fmt.Sprint("relay", i), at, []string{fmt.Sprint("service:s", i%10), "guy"})
		for s := range stats {
			e.Collectors[0].Stats = append(e.Collectors[0].Stats, stat(fmt.Sprint("stat", s), float64(i+s)/7))
		}
		records = append(records, journal.Record{Seq: uint64(i + 1), Event: e})
	}
	return records
}

// BenchmarkAggregates1M is the case of the budget: a million readings of 10,000 series with one
// poll a minute. It is compared with decoding the same events alone.
func BenchmarkAggregates1M(b *testing.B) {
	var encoded [][]byte
	for poll := range 100 {
		for _, rec := range fleetRecords(1000, 10, noon.Add(time.Duration(poll)*time.Minute)) {
			encoded = append(encoded, must(codec.EncodeEvent(nil, rec.Event)))
		}
	}
	decode := func(b *testing.B, each func([]journal.Record)) {
		dec := new(codec.Decoder)
		events := make([]codec.Event, 1000)
		records := make([]journal.Record, 1000)
		for from := 0; from < len(encoded); from += len(records) {
			for i := range records {
				if err := dec.DecodeEvent(encoded[from+i], &events[i]); err != nil {
					b.Fatal(err)
				}
				records[i] = journal.Record{Seq: uint64(from + i + 1), Event: &events[i]}
			}
			if each != nil {
				each(records)
			}
		}
	}
	report := func(b *testing.B, n int) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*1_000_000), "ns/reading")
	}
	b.Run("decode", func(b *testing.B) {
		n := 0
		for b.Loop() {
			decode(b, nil)
			n++
		}
		report(b, n)
	})
	b.Run("decode+aggregate", func(b *testing.B) {
		n := 0
		db := openDB(b)
		for b.Loop() {
			a := must(NewAggregates(AggregatesOptions{Store: nullStore{}, Journal: projectortest.NewMemory(), DB: db,
				Interval: 15 * time.Minute, Now: func() time.Time { return noon }}))
			if err := a.Begin(b.Context(), projector.Origin{}); err != nil {
				b.Fatal(err)
			}
			decode(b, func(records []journal.Record) {
				if _, err := a.Apply(b.Context(), records); err != nil {
					b.Fatal(err)
				}
			})
			n++
		}
		report(b, n)
	})
}
