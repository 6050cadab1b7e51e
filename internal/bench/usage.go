package main

import (
	"fmt"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/procfs"
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
	written, err := procfs.Written(s.Pid())
	if err != nil {
		return u, err
	}
	u.written = float64(written)
	u.own = ownCPU()
	if u.machine, err = procfs.MachineCPU(); err != nil {
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
