package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// The program of README.md: three collectors until it is interrupted.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, "127.0.0.1:3000"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs a relay with three collectors until ctx ends.
func run(ctx context.Context, address string) error {
	r, err := relay.New(relay.Options{Address: address, ID: "web1", Logger: slog.Default()})
	if err != nil {
		return err
	}
	defer r.Close()

	// One stat, with two tags: polled as uptime-uptime:12.5.
	began := time.Now()
	uptime := relay.NewPointCollector(func() float64 { return time.Since(began).Seconds() })
	if err := r.AddCollector("uptime", []string{"service:web1", "example"}, uptime); err != nil {
		return err
	}

	// Several stats at once: polled as mem-heap:1048576,mem-sys:8388608.
	mem := relay.NewSetCollector(func() map[string]float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return map[string]float64{"heap": float64(m.HeapAlloc), "sys": float64(m.Sys)}
	})
	if err := r.AddCollector("mem", nil, mem); err != nil {
		return err
	}

	// Sampled every second; a poll gets the largest value since the last one.
	goroutines := relay.NewPointCollector(func() float64 { return float64(runtime.NumGoroutine()) })
	if err := r.AddCollector("goroutines", nil, relay.Sample(goroutines, time.Second, relay.Max())); err != nil {
		return err
	}

	<-ctx.Done()
	return r.Close()
}

// TestReadme runs the program of README.md, and checks that README.md shows the program that runs.
func TestReadme(t *testing.T) {
	s, _ := listen(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, s.addr) }()
	p := s.accept()
	added := map[string]bool{}
	for range 3 {
		line, _ := p.line()
		added[line] = true
	}
	if !added["add uptime:service:web1,example"] || !added["add mem:"] || !added["add goroutines:"] {
		t.Errorf("added %v", added)
	}
	got := p.poll("uptime,mem,goroutines")
	for _, stat := range []string{"uptime-uptime:", "mem-heap:", "mem-sys:", "goroutines-goroutines:"} {
		if !strings.Contains(got, stat) {
			t.Errorf("no %s in %s", stat, got)
		}
	}
	cancel()
	p.expect("remove goroutines", "remove mem", "remove uptime", "close")
	p.hangUp()
	if err := <-done; err != nil {
		t.Error(err)
	}

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		section(t, string(source), "// run runs a relay", "\n}\n"),
		strings.TrimPrefix(section(t, string(source), "func Example() {", "\n}\n"), "func Example() {"),
	} {
		if !strings.Contains(string(readme), part) {
			t.Errorf("README.md does not show\n%s", part)
		}
	}
}

// section returns text from one marker to the end of the next other.
func section(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	inside, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("no %q ... %q", from, to)
	}
	return from + inside + to
}
