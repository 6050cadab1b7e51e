package main

import (
	"context"
	"fmt"
)

// runCodec compares the journal's codec with encoding/json on the same event.
func (b *bench) runCodec(ctx context.Context) error {
	rounds := 5
	if b.long {
		rounds = 50
	}
	f, err := b.benchmarks(ctx, "journal/codec")
	if err != nil {
		return err
	}
	if err := f.run(ctx, rounds, "^BenchmarkCodec$", "0.1s"); err != nil {
		return err
	}
	each := func(name string) float64 { return f.of("BenchmarkCodec/"+name, "ns/reading") }
	reading := func(ns float64) string { return fmt.Sprintf("%.0f ns a reading", ns) }
	for i, name := range []string{"decode", "encode"} {
		ours, theirs := each(name), each("encoding-json/"+name)
		least := []float64{10, 1}[i] // only decoding has a budget
		b.compare("codec: "+name, theirs/ours, least, reading(ours), "encoding/json: "+reading(theirs))
	}
	b.add("codec: decode and encode, a collector for each stat", true, "-", "%s, %s", reading(each("singles/decode")), reading(each("singles/encode")))
	allocations := 0.0
	for _, name := range []string{"decode", "encode", "singles/decode", "singles/encode"} {
		allocations += f.of("BenchmarkCodec/"+name, "allocs/op")
	}
	b.add("codec: allocations of decode and encode", allocations == 0, "0", "%g", allocations)
	return f.err()
}
