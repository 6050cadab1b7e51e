package projectortest

import (
	"fmt"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Fleet returns one poll of so many relays, now, with 10 readings each: the records 1 and
// following.
func Fleet(relays int) []journal.Record {
	var records []journal.Record
	for i := range relays {
		c := codec.Collector{Name: "cpu", Tags: []string{"service:web1"}}
		for s := range 10 {
			c.Stats = append(c.Stats, codec.Stat{ID: fmt.Sprint("stat_", s), Value: float64(i*s) / 7})
		}
		e := &codec.Event{Relay: fmt.Sprint("host", i), Time: time.Now().UnixNano(), Collectors: []codec.Collector{c}}
		records = append(records, journal.Record{Seq: uint64(i + 1), Event: e})
	}
	return records
}
