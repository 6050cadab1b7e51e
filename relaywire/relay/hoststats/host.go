package hoststats

import (
	stdnet "net"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
)

// host is where the numbers come from: this machine, or a test's.
type host struct {
	now    func() time.Time
	cpu    func() (cpu.TimesStat, error)
	memory func() (*mem.VirtualMemoryStat, error)
	swap   func() (*mem.SwapMemoryStat, error)
	load   func() (*load.AvgStat, error)
	// mounts are the file systems on devices that can be reached: none is hidden by another one.
	mounts func() ([]mount, error)
	// space is that of the file system at path, whichever that is now.
	space      func(path string) (space, error)
	interfaces func() ([]iface, error)
}

// mount is a mounted file system.
type mount struct {
	path, fstype string
	// device tells file systems apart as space.device does, store where they keep their bytes:
	// subvolumes are several devices with one store.
	device uint64
	store  string
}

// space is how full a file system is, in bytes.
type space struct {
	device            uint64
	total, used, free uint64
}

// iface is a network interface. The index is its own for as long as it exists; the name may go to
// another one.
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
		interfaces: systemInterfaces,
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
	// Counters have a name only. They are those of an interface that had the name before and after
	// they were read.
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
