package hoststats

import (
	stdnet "net"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
)

// host is the source of the numbers: this machine or a test's fake.
type host struct {
	now    func() time.Time
	cpu    func() (cpu.TimesStat, error)
	memory func() (*mem.VirtualMemoryStat, error)
	swap   func() (*mem.SwapMemoryStat, error)
	load   func() (*load.AvgStat, error)
	// mounts returns the file systems on devices that can be reached: none is hidden by another.
	mounts func() ([]mount, error)
	// space returns the space of the file system that is at path now.
	space func(path string) (space, error)
	// interfaces returns the network interfaces, and when their counters were read.
	interfaces func() ([]iface, time.Time, error)
	// devices returns the disks; counters returns only their counters, which costs less, and when they
	// were read.
	devices  func() ([]blockDevice, error)
	counters func() ([]blockDevice, time.Time, error)
	// limits returns the limits of the container that the program runs in; zero where there are none.
	limits func() limits
}

// blockDevice is a disk, or a partition of one. Its counters grow from the start of the machine.
type blockDevice struct {
	name                  string
	number                uint64 // tells devices of one name apart
	partition             bool
	reads, writes         uint64
	readBytes, writeBytes uint64
	busy                  uint64 // milliseconds
	hasBusy               bool   // the system counts busy
}

// mount is a mounted file system.
type mount struct {
	path, fstype string
	// device identifies a file system, as space.device does. store identifies the place where the
	// file system keeps its bytes: subvolumes are several devices with one store.
	device uint64
	store  string
}

// space is how full a file system is, in bytes.
type space struct {
	device            uint64
	total, used, free uint64
}

// iface is a network interface. It keeps its index for as long as it exists. Its name may later
// belong to another interface.
type iface struct {
	name     string
	index    int
	loopback bool
	in, out  uint64
}

func thisHost() host {
	return host{
		now: time.Now,
		cpu: func() (cpu.TimesStat, error) {
			all, err := cpu.Times(false)
			if err != nil || len(all) == 0 {
				return cpu.TimesStat{}, errOr(err)
			}
			return all[0], nil
		},
		memory:     mem.VirtualMemory,
		swap:       mem.SwapMemory,
		load:       load.Avg,
		mounts:     systemMounts,
		space:      systemSpace,
		interfaces: shared(systemInterfaces),
		devices:    systemDevices,
		counters:   shared(systemCounters),
		limits:     systemLimits,
	}
}

// together is how long after a reading others that are polled with it get the same one. It is shorter
// than the time between two polls.
const together = 20 * time.Millisecond

// shared makes the collectors that are polled together share one reading: a machine can have hundreds
// of interfaces, and a reading is one of all.
func shared[V any](read func() (V, error)) func() (V, time.Time, error) {
	var (
		mu    sync.Mutex // guards the fields below
		value V
		at    time.Time
		err   error
	)
	return func() (V, time.Time, error) {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() || time.Since(at) >= together {
			value, err = read()
			at = time.Now()
		}
		return value, at, err
	}
}

// systemInterfaces reads the interfaces with their counters.
func systemInterfaces() ([]iface, error) {
	before, err := stdnet.Interfaces()
	if err != nil {
		return nil, err
	}
	counters, err := net.IOCounters(true)
	if err != nil {
		return nil, err
	}
	after, err := stdnet.Interfaces()
	if err != nil {
		return nil, err
	}
	// Counters have only a name. They belong to an interface if it had that name both before and
	// after the counters were read.
	index := make(map[string]int, len(before))
	for _, i := range before {
		index[i.Name] = i.Index
	}
	named := make(map[string]net.IOCountersStat, len(counters))
	for _, c := range counters {
		named[c.Name] = c
	}
	var all []iface
	for _, i := range after {
		c, counted := named[i.Name]
		if counted && index[i.Name] == i.Index {
			all = append(all, iface{i.Name, i.Index, i.Flags&stdnet.FlagLoopback != 0, c.BytesRecv, c.BytesSent})
		}
	}
	return all, nil
}
