package relaytest_test

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// BenchmarkFleetPoll polls 500 relays of ten stats at once, round after round. cpu-ns/poll is the
// processor time of one poll, used by the fleet and by a server that only counts lines: an upper
// bound for what a Fleet adds to a benchmark of a real server.
func BenchmarkFleetPoll(b *testing.B) {
	const relays = 500
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	conns := make(chan net.Conn, relays)
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "ok\nbeat 30\ntakes past\n")
			conns <- conn
		}
	})
	b.Cleanup(func() { ln.Close(); wg.Wait() })
	f := relaytest.NewFleet(relaytest.FleetOptions{Addr: ln.Addr().String(), N: relays})
	if err := f.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.Stop)
	all := make([]net.Conn, relays)
	buf := make([]byte, 64<<10)
	for i := range all {
		all[i] = <-conns
		for welcome := 0; welcome < 2; { // id and add
			n, err := all[i].Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			welcome += bytes.Count(buf[:n], []byte{'\n'})
		}
	}
	runtime.GC()
	b.ReportAllocs()
	get := []byte("get c0\n")
	polls, before := 0, cpuTime(b)
	for b.Loop() {
		for _, conn := range all {
			if _, err := conn.Write(get); err != nil {
				b.Fatal(err)
			}
		}
		for _, conn := range all {
			n, err := conn.Read(buf)
			if err != nil || buf[n-1] != '\n' {
				b.Fatalf("%q, %v", buf[:n], err)
			}
		}
		polls += relays
	}
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(polls), "cpu-ns/poll")
	b.StopTimer()
	if got := f.Sent(); got < uint64(10*(polls-relays)) {
		b.Errorf("%d polls, %d readings", polls, got)
	}
	for _, conn := range all {
		conn.Close()
	}
}

// cpuTime returns the time that this process has used on all processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
