package kapa

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// BenchmarkThousandAlerts measures what share of a core 1,000 alerts take, while 10,000 relays send
// ten stats each, every second. Most alerts watch a host, as in practice. The others watch a
// service, or all readings.
func BenchmarkThousandAlerts(b *testing.B) {
	const relays, stats, alerts = 10_000, 10, 1000
	for _, tt := range []struct {
		name  string
		every Duration
		alert func(i int, a *Alert)
	}{
		{"mixed", 30 * second, func(i int, a *Alert) {
			switch {
			case i%10 < 7:
				a.Tags = map[string]string{"host": fmt.Sprint("relay-", i)}
			case i%10 < 9:
				a.Tags = map[string]string{"service": fmt.Sprint("service-", i%100)}
			default:
				a.Tags = nil
			}
		}},
		{"one metric by host", 30 * second, func(i int, a *Alert) {
			a.Metric, a.Tags = "stat_0", map[string]string{"host": fmt.Sprint("relay-", i)}
		}},
		{"one metric by service", 30 * second, func(i int, a *Alert) {
			a.Metric, a.Tags = "stat_0", map[string]string{"service": fmt.Sprint("service-", i%100)}
		}},
		{"on everything", 30 * second, func(_ int, a *Alert) { a.Tags = nil }},
		{"every second", second, func(i int, a *Alert) { a.Tags = map[string]string{"host": fmt.Sprint("relay-", i)} }},
		{"deadman", 30 * second, func(i int, a *Alert) {
			a.Tags, a.Deadman = map[string]string{"host": fmt.Sprint("relay-", i)}, 5*minute
		}},
		{"ten by host, of 10,000", 30 * second, func(i int, a *Alert) {
			a.Tags, a.By = map[string]string{"host": fmt.Sprint("relay-", i)}, nil
			if i < 10 {
				a.Tags, a.By = nil, []string{"host"}
			}
		}},
		{"a deadman by host, of 10,000", 30 * second, func(i int, a *Alert) {
			a.Tags = map[string]string{"host": fmt.Sprint("relay-", i)}
			if i == 0 {
				a.Tags, a.Deadman = nil, 5*minute
			}
		}},
		{"by host, 1,000 relays a second", 5 * second, func(i int, a *Alert) { a.Tags = map[string]string{"host": fmt.Sprint("relay-", i)} }},
		{"on everything, 1,000 relays a second", 5 * second, func(_ int, a *Alert) { a.Tags = nil }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s := newSim(b)
			for i := range alerts {
				a := quick()
				a.Metric, a.Duration, a.Every = fmt.Sprint("stat_", i%stats), 5*minute, tt.every
				tt.alert(i, &a)
				s.create(a)
			}
			events := make([]codec.Event, relays)
			for i := range events {
				c := codec.Collector{Name: "c", Tags: []string{"bare", fmt.Sprint("service:service-", i%100)}}
				for k := range stats {
					c.Stats = append(c.Stats, codec.Stat{ID: fmt.Sprint("stat_", k), Value: float64(i % 100)})
				}
				events[i] = codec.Event{Relay: fmt.Sprint("relay-", i), Collectors: []codec.Collector{c}}
			}
			answer := relays // relays that answer each second
			if strings.Contains(tt.name, "1,000 relays") {
				answer = 1000
			}
			seq := uint64(0)
			for b.Loop() { // one second of simulated time
				records := make([]journal.Record, 0, answer)
				for range answer {
					e := &events[seq%relays]
					seq++
					e.Time = s.now.UnixNano() + int64(len(records))
					records = append(records, journal.Record{Seq: seq, Event: e})
				}
				s.now = s.now.Add(time.Second)
				for len(records) > 0 {
					n := min(1000, len(records))
					s.save(s.e.Apply(b.Context(), records[:n]))
					records = records[n:]
				}
				s.save(s.e.Tick(b.Context(), s.now))
			}
			perSecond := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(perSecond*100, "%core")
			b.ReportMetric(perSecond*1e9/float64(answer*stats), "ns/reading")
		})
	}
}
