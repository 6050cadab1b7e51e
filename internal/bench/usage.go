package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// usage is what a server has used up to a moment, or between two moments.
type usage struct {
	at      time.Time
	took    time.Duration // between the two moments
	cpu     time.Duration // processor time of the server,
	own     time.Duration // of this process, in which the relays are,
	machine time.Duration // of all processes
	written float64       // bytes that the server wrote to the disk
	mallocs float64       // allocations of the server
}

// String returns how many processors were busy on average.
func (u usage) String() string {
	busy := func(d time.Duration) float64 { return d.Seconds() / u.took.Seconds() }
	return fmt.Sprintf("%.2f the server, %.2f the relays, %.2f others", busy(u.cpu), busy(u.own), busy(u.machine-u.cpu-u.own))
}

func takeUsage(s *pulseproc.Server) (u usage, err error) {
	u.at = time.Now()
	if u.mallocs, err = s.Metric("go_memstats_mallocs_total"); err != nil {
		return u, err
	}
	if u.written, err = written(s.Pid()); err != nil {
		return u, err
	}
	u.own = ownCPU()
	if u.machine, err = machineCPU(); err != nil {
		return u, err
	}
	u.cpu, err = s.CPU()
	return u, err
}

// since returns the usage after u.
func (u usage) since(s *pulseproc.Server) (usage, error) {
	now, err := takeUsage(s)
	return usage{took: now.at.Sub(u.at), cpu: now.cpu - u.cpu, own: now.own - u.own, machine: now.machine - u.machine,
		written: now.written - u.written, mallocs: now.mallocs - u.mallocs}, err
}

// ownCPU returns the processor time that this process has used.
func ownCPU() time.Duration {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		panic(err) // cannot fail with these arguments
	}
	return time.Duration(self.Utime.Nano() + self.Stime.Nano())
}

// machineCPU returns the processor time that was not idle, since the machine was started.
func machineCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var sum time.Duration
	for i, field := range fields[1:9] { // user, nice, system, idle, iowait, irq, softirq, steal
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			sum += time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100
		}
	}
	return sum, nil
}

// written returns how many bytes a process has written to the disk.
func written(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if bytes, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseFloat(strings.TrimSpace(bytes), 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/io has no write_bytes", pid)
}
