package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// sampleEvent is a reply of ten readings in three collectors.
func sampleEvent() *codec.Event {
	return &codec.Event{Relay: "web1", Time: 1795416970017829163, Collectors: []codec.Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []codec.Stat{
			{ID: "cpu_used", Value: 7}, {ID: "cpu_idle", Value: 99.75}, {ID: "cpu_wait", Value: 0.0312}, {ID: "cpu_steal", Value: 0}}},
		{Name: "ram", Tags: []string{"service:web1"}, Stats: []codec.Stat{
			{ID: "ram_used", Value: 73.5211}, {ID: "ram_free", Value: 26.4789}, {ID: "ram_total", Value: 16777216}}},
		{Name: "disk", Tags: []string{"mount:/"}, Stats: []codec.Stat{
			{ID: "disk_used", Value: 41.2}, {ID: "disk_free", Value: 58.8}, {ID: "disk_inodes", Value: 1.5}}},
	}}
}

// plainEvent is the event as one would write it for encoding/json.
type plainEvent struct {
	V          int              `json:"v"`
	Relay      string           `json:"relay"`
	Time       int64            `json:"time"`
	Collectors []plainCollector `json:"collectors"`
}

type plainCollector struct {
	Name  string             `json:"name"`
	Tags  []string           `json:"tags"`
	Stats map[string]float64 `json:"stats"`
}

// runCodec compares the journal's codec with encoding/json on the same event.
func (b *bench) runCodec(context.Context) error {
	event := sampleEvent()
	data, err := codec.EncodeEvent(nil, event)
	if err != nil {
		return err
	}
	var plain plainEvent
	if err := json.Unmarshal(data, &plain); err != nil {
		return err
	}
	var failed error
	check := func(err error) {
		if err != nil {
			failed = err
		}
	}
	var buffer []byte
	var decoded codec.Event
	decoder := new(codec.Decoder)
	encode := func() { buffer, err = codec.EncodeEvent(buffer[:0], event); check(err) }
	decode := func() { check(decoder.DecodeEvent(data, &decoded)) }
	plainEncode := func() { _, err := json.Marshal(&plain); check(err) }
	plainDecode := func() { var p plainEvent; check(json.Unmarshal(data, &p)) }

	rounds := 20
	if b.long {
		rounds = 200
	}
	times := fastest(rounds, 5000, encode, decode, plainEncode, plainDecode)
	for i, name := range []string{"decode", "encode"} {
		ours, theirs := times[1-i], times[3-i]
		least := []float64{10, 1}[i] // decoding is what has a budget
		b.compare("codec: "+name, theirs/ours, least, perReading(ours, event), "encoding/json: "+perReading(theirs, event))
	}
	allocations := testing.AllocsPerRun(1000, decode) + testing.AllocsPerRun(1000, encode)
	b.add("codec: allocations of decode and encode", allocations == 0, "0", "%g", allocations)
	return failed
}

func perReading(ns float64, e *codec.Event) string {
	return fmt.Sprintf("%.0f ns a reading", ns/float64(e.Readings()))
}

// fastest has the functions take turns, for so many rounds of so many calls,
// and returns the nanoseconds of a call in each one's fastest round: what
// else the machine does can only make it slower.
func fastest(rounds, calls int, functions ...func()) []float64 {
	best := make([]float64, len(functions))
	for i := range best {
		best[i] = math.Inf(1)
	}
	for range rounds {
		for i, f := range functions {
			began := time.Now()
			for range calls {
				f()
			}
			best[i] = min(best[i], float64(time.Since(began).Nanoseconds())/float64(calls))
		}
	}
	return best
}
