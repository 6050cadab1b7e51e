package hoststats

import (
	stdnet "net"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
)

// host is where the numbers come from: this machine, or a test's.
type host struct {
	now        func() time.Time
	cpu        func() (cpu.TimesStat, error)
	memory     func() (*mem.VirtualMemoryStat, error)
	swap       func() (*mem.SwapMemoryStat, error)
	load       func() (*load.AvgStat, error)
	partitions func() ([]disk.PartitionStat, error)
	usage      func(mount string) (*disk.UsageStat, error)
	network    func() ([]net.IOCountersStat, error)
	loopback   func() map[string]bool
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
		partitions: func() ([]disk.PartitionStat, error) { return disk.Partitions(false) },
		usage:      disk.Usage,
		network:    func() ([]net.IOCountersStat, error) { return net.IOCounters(true) },
		loopback: func() map[string]bool {
			names := map[string]bool{}
			all, _ := stdnet.Interfaces()
			for _, i := range all {
				names[i.Name] = i.Flags&stdnet.FlagLoopback != 0
			}
			return names
		},
	}
}
