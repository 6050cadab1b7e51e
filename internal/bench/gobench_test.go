package main

import "testing"

func TestBenchmarksBest(t *testing.T) {
	f := &benchmarks{best: make(map[string]float64)}
	f.add("goos: linux\nBenchmarkA/b-c-2   \t 100\t  12.5 ns/op\t 3 events/s\t 0 allocs/op\nPASS\n")
	f.add("BenchmarkA/b-c-2   \t 100\t  11 ns/op\t 2 events/s\t 1 allocs/op\n")
	f.add("BenchmarkA/b-c-2   \t 100\t  12 ns/op\t 4 events/s\t 1 allocs/op\n")
	for unit, want := range map[string]float64{"ns/op": 11, "events/s": 4, "allocs/op": 0} {
		if got := f.of("BenchmarkA/b-c", unit); got != want {
			t.Errorf("%v %s, want %v", got, unit, want)
		}
	}
	if err := f.err(); err != nil {
		t.Error(err)
	}
	if f.of("BenchmarkA", "ns/op"); f.err() == nil {
		t.Error("a figure that is not there is no error")
	}
}
