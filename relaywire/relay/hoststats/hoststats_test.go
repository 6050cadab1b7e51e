package hoststats

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a host whose numbers the test sets.
type machine struct {
	clock      time.Time
	err        error // of everything, if set
	times      cpu.TimesStat
	memory     mem.VirtualMemoryStat
	swap       mem.SwapMemoryStat
	partitions []disk.PartitionStat
	usage      map[string]disk.UsageStat
	network    []net.IOCountersStat
}

func (m *machine) host() host {
	return host{
		now:        func() time.Time { return m.clock },
		cpu:        func() (cpu.TimesStat, error) { return m.times, m.err },
		memory:     func() (*mem.VirtualMemoryStat, error) { return &m.memory, m.err },
		swap:       func() (*mem.SwapMemoryStat, error) { return &m.swap, m.err },
		load:       func() (*load.AvgStat, error) { return &load.AvgStat{Load1: 1, Load5: 5, Load15: 15}, m.err },
		partitions: func() ([]disk.PartitionStat, error) { return m.partitions, m.err },
		usage: func(mount string) (*disk.UsageStat, error) {
			u, ok := m.usage[mount]
			if !ok {
				return nil, errors.New("no such mount")
			}
			return &u, m.err
		},
		network:  func() ([]net.IOCountersStat, error) { return slices.Clone(m.network), m.err },
		loopback: func() map[string]bool { return map[string]bool{"lo": true} },
	}
}

func newMachine() *machine {
	return &machine{
		clock:  time.Unix(1795416968, 0),
		times:  cpu.TimesStat{User: 100, System: 50, Idle: 850, Guest: 40},
		memory: mem.VirtualMemoryStat{Total: 1000, Available: 250, Free: 10},
		swap:   mem.SwapMemoryStat{Total: 100, Free: 75},
		partitions: []disk.PartitionStat{
			{Device: "/dev/sda1", Mountpoint: "/etc/hosts", Fstype: "ext4"}, {Device: "/dev/sda1", Mountpoint: "/", Fstype: "ext4"},
			{Device: "/dev/sdb1", Mountpoint: "/var/lib-a", Fstype: "xfs"}, {Device: "/dev/sdc1", Mountpoint: "/var/lib_a", Fstype: "xfs"},
			{Device: "/dev/sdd1", Mountpoint: "/odd, \u00e9\n", Fstype: "xfs"}, {Device: "/dev/loop0", Mountpoint: "/snap/x", Fstype: "squashfs"},
			{Device: "/dev/gone", Mountpoint: "/gone", Fstype: "ext4"}, {Device: "/dev/sde1", Mountpoint: "/empty", Fstype: "ext4"},
		},
		usage: map[string]disk.UsageStat{
			"/": {Total: 1000, Used: 450, Free: 450}, "/etc/hosts": {Total: 1000}, "/var/lib-a": {Total: 10, Used: 1, Free: 3}, "/var/lib_a": {Total: 10},
			"/odd, \u00e9\n": {Total: 10, Free: 10}, "/snap/x": {Total: 10, Used: 10}, "/empty": {},
		},
		network: []net.IOCountersStat{{Name: "lo"}, {Name: "eth0", BytesRecv: 1000, BytesSent: 500}, {Name: "veth12ab"}, {Name: "br-1"}},
	}
}

func find(t *testing.T, all []Named, name string) Named {
	t.Helper()
	for _, c := range all {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no collector %s", name)
	return Named{}
}

func TestCollectorsOfAMachine(t *testing.T) {
	var got []string
	for _, c := range collectors(newMachine().host()) {
		got = append(got, strings.Join(append([]string{c.Name}, c.Tags...), " "))
		if !relaywire.ValidName(c.Name) {
			t.Errorf("%q cannot be sent", c.Name)
		}
		for _, tag := range c.Tags {
			if !relaywire.ValidTag(tag) {
				t.Errorf("tag %q cannot be sent", tag)
			}
		}
	}
	want := []string{"cpu", "ram", "swap", "load", "disk_root mount:/", "disk_odd____ mount:/odd____", "disk_var_lib_a mount:/var/lib-a",
		"disk_var_lib_a_2 mount:/var/lib_a", "net_br_1 interface:br-1", "net_eth0 interface:eth0"}
	if !slices.Equal(got, want) {
		t.Errorf("found\n%q, want\n%q", got, want)
	}
}

func TestValues(t *testing.T) {
	m := newMachine()
	all := collectors(m.host())
	for name, want := range map[string]map[string]float64{
		"cpu":            nil, // no time has passed
		"ram":            {"ram_used": 75, "ram_free": 250, "ram_total": 1000},
		"swap":           {"swap_used": 25, "swap_free": 75, "swap_total": 100},
		"load":           {"load_1": 1, "load_5": 5, "load_15": 15},
		"disk_root":      {"disk_used": 50, "disk_free": 450, "disk_total": 1000},
		"disk_var_lib_a": {"disk_used": 25, "disk_free": 3, "disk_total": 10},
		// All of it is reserved: how full it is cannot be said.
		"disk_var_lib_a_2": {"disk_free": 0, "disk_total": 10},
		"net_eth0":         nil,
	} {
		if got := find(t, all, name).Collector.Collect(); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestCPUIsCountedFromPollToPoll(t *testing.T) {
	m := newMachine()
	c := find(t, collectors(m.host()), "cpu").Collector
	m.times = cpu.TimesStat{User: 110, Nice: 5, System: 55, Idle: 870, Iowait: 5, Irq: 3, Softirq: 2, Steal: 0, Guest: 1000}
	want := map[string]float64{"cpu_used": 50, "cpu_user": 30, "cpu_system": 20, "cpu_iowait": 10, "cpu_steal": 0}
	if got := c.Collect(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := c.Collect(); got != nil {
		t.Errorf("no time has passed: %v", got)
	}
	m.times.User += 100
	if got := c.Collect(); got["cpu_used"] != 100 || got["cpu_user"] != 100 {
		t.Errorf("since the last poll: %v", got)
	}
	m.times.User -= 200
	if got := c.Collect(); got != nil {
		t.Errorf("backwards: %v", got)
	}
	m.times.Idle += 100
	if got := c.Collect(); got["cpu_used"] != 0 {
		t.Errorf("after that: %v", got)
	}
}

func TestNetworkRates(t *testing.T) {
	m := newMachine()
	c := find(t, collectors(m.host()), "net_eth0").Collector
	m.clock = m.clock.Add(4 * time.Second)
	m.network[1].BytesRecv, m.network[1].BytesSent = 1400, 502
	if got := c.Collect(); !maps.Equal(got, map[string]float64{"net_in": 100, "net_out": 0.5}) {
		t.Errorf("%v", got)
	}
	m.clock = m.clock.Add(time.Second)
	m.network[1].BytesRecv = 0
	if got := c.Collect(); got != nil {
		t.Errorf("counters that begin anew: %v", got)
	}
	eth0 := m.network[1]
	m.network = nil
	if got := c.Collect(); got != nil {
		t.Errorf("an interface that is gone: %v", got)
	}
	m.network = []net.IOCountersStat{eth0}
	m.clock = m.clock.Add(time.Second)
	if got := c.Collect(); got != nil {
		t.Errorf("an interface that has just come back: %v", got)
	}
	m.clock = m.clock.Add(time.Second)
	if got := c.Collect(); !maps.Equal(got, map[string]float64{"net_in": 0, "net_out": 0}) {
		t.Errorf("an interface that is back: %v", got)
	}
}

// TestNothingToRead: nothing is sent as 0 that could not be read.
func TestNothingToRead(t *testing.T) {
	m := newMachine()
	all := collectors(m.host())
	m.err = errors.New("broken")
	for _, c := range all {
		if got := c.Collector.Collect(); len(got) != 0 {
			t.Errorf("%s: %v", c.Name, got)
		}
	}
	if all := collectors(m.host()); len(all) != 0 {
		t.Errorf("collectors of a machine without anything: %v", all)
	}
}

func TestLongAndEqualNames(t *testing.T) {
	taken := map[string]bool{}
	long := strings.Repeat("/x-y", 300)
	for range 3 {
		name := unique("disk_"+mountName(long), taken)
		if !relaywire.ValidName(name) {
			t.Errorf("%d bytes: %q", len(name), name)
		}
	}
	if len(taken) != 3 {
		t.Errorf("%d names", len(taken))
	}
	if tag := tag("mount", long); !relaywire.ValidTag(tag) {
		t.Errorf("%q", tag)
	}
	if got := mountName("C:\\"); got != "C_" {
		t.Errorf("C: is called %q", got)
	}
}

// TestThisMachine: whatever machine this is, its numbers make sense.
func TestThisMachine(t *testing.T) {
	all := Collectors()
	for _, name := range []string{"cpu", "ram", "disk_root"} {
		find(t, all, name)
	}
	for _, c := range all {
		for stat, v := range c.Collector.Collect() {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || strings.HasSuffix(stat, "_used") && v > 100 || !relaywire.ValidName(stat) {
				t.Errorf("%s-%s:%v", c.Name, stat, v)
			}
		}
	}
}
