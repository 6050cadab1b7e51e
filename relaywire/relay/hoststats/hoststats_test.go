package hoststats

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a host whose numbers the test sets.
type machine struct {
	mu         sync.Mutex // guards the fields below where a Watcher reads them too
	clock      time.Time
	err        error // of everything, if set
	times      cpu.TimesStat
	memory     mem.VirtualMemoryStat
	swap       mem.SwapMemoryStat
	mounts     []mount
	space      map[string]space
	interfaces []iface
	devices    []blockDevice
	limits     limits
}

func (m *machine) host() host {
	return host{
		now: func() time.Time { return m.clock },
		cpu: func() (cpu.TimesStat, error) { return read(m, func() cpu.TimesStat { return m.times }) },
		memory: func() (*mem.VirtualMemoryStat, error) {
			return read(m, func() *mem.VirtualMemoryStat { return &m.memory })
		},
		swap: func() (*mem.SwapMemoryStat, error) {
			return read(m, func() *mem.SwapMemoryStat { s := m.swap; return &s })
		},
		load: func() (*load.AvgStat, error) {
			return read(m, func() *load.AvgStat { return &load.AvgStat{Load1: 1, Load5: 5, Load15: 15} })
		},
		mounts:  func() ([]mount, error) { return read(m, func() []mount { return slices.Clone(m.mounts) }) },
		devices: func() ([]blockDevice, error) { return read(m, func() []blockDevice { return slices.Clone(m.devices) }) },
		counters: func() ([]blockDevice, time.Time, error) {
			all, err := read(m, func() []blockDevice { return slices.Clone(m.devices) })
			return all, m.clock, err
		},
		limits: func() limits { l, _ := read(m, func() limits { return m.limits }); return l },
		interfaces: func() ([]iface, time.Time, error) {
			all, err := read(m, func() []iface { return slices.Clone(m.interfaces) })
			return all, m.clock, err
		},
		space: func(path string) (space, error) {
			s, err := read(m, func() space { return m.space[path] })
			if s == (space{}) {
				return space{}, errors.New("no such path")
			}
			return s, err
		},
	}
}

func read[V any](m *machine, value func() V) (V, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return value(), m.err
}

func newMachine() *machine {
	return &machine{
		clock:  time.Unix(1795416968, 0),
		times:  cpu.TimesStat{User: 100, System: 50, Idle: 850, Guest: 40},
		memory: mem.VirtualMemoryStat{Total: 1000, Available: 250, Free: 10},
		swap:   mem.SwapMemoryStat{Total: 100, Free: 75},
		mounts: []mount{
			{"/etc/hosts", "ext4", 1, "sda1"}, {"/", "ext4", 1, "sda1"}, {"/var/lib-a", "xfs", 2, "sdb1"}, {"/var/lib_a", "xfs", 3, "sdc1"},
			{"/odd, \u00e9\n", "xfs", 4, "sdd1"}, {"/snap/x", "squashfs", 5, "loop0"}, {"/gone", "ext4", 6, "gone"}, {"/empty", "ext4", 7, "sde1"},
			{"/left", "ext4", 8, "sdf1"}, // unmounted since: a directory of / is at the path now
		},
		space: map[string]space{
			"/": {1, 1000, 450, 450}, "/etc/hosts": {1, 1000, 0, 0}, "/var/lib-a": {2, 10, 1, 3}, "/var/lib_a": {3, 10, 0, 0},
			"/odd, \u00e9\n": {4, 10, 0, 10}, "/snap/x": {5, 10, 10, 0}, "/empty": {device: 7}, "/left": {1, 1000, 450, 450},
		},
		devices: []blockDevice{
			{"sda", 0x800, false, 100, 50, 51200, 25600, 1000, true}, {"sda1", 0x801, true, 100, 50, 51200, 25600, 1000, true},
			{"sdb", 0x810, false, 0, 0, 0, 0, 0, true}, {"loop0", 0x700, false, 5, 0, 5, 0, 0, true}, {"dm-0", 0xfd00, false, 7, 7, 7, 7, 7, true},
		},
		interfaces: []iface{{"lo", 1, true, 0, 0}, {"eth0", 2, false, 1000, 500}, {"veth12ab", 3, false, 0, 0}, {"br-1", 4, false, 0, 0}, {"cali9", 5, false, 0, 0}},
	}
}

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Mounts: source.Filter{Exclude: source.Globs{"/var/*", "/odd*"}}, Devices: source.Filter{Exclude: source.Globs{}}, Interfaces: source.Filter{Include: source.Globs{"br-*"}}},
			"cpu ram swap load disk_root io_sda io_loop0 io_dm_0 net_br_1"},
		{Options{Mounts: source.Filter{Include: source.Globs{"/var/lib_a"}}, Devices: source.Filter{Exclude: source.Globs{"*"}}, Interfaces: source.Filter{Exclude: source.Globs{"eth*", "br-*"}}},
			"cpu ram swap load disk_var_lib_a net_cali9 net_veth12ab"},
	} {
		var got []string
		for _, n := range collectors(&Source{newMachine().host(), c.o}) {
			got = append(got, n.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
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
	for _, c := range collectors(&Source{h: newMachine().host()}) {
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
	want := []string{"cpu", "ram", "swap", "load", "disk_root mount:/", "disk_odd____ mount:/odd; é", "disk_var_lib_a mount:/var/lib-a",
		"disk_var_lib_a_2 mount:/var/lib_a", "io_sda device:sda", "io_dm_0 device:dm-0", "net_eth0 interface:eth0"}
	if !slices.Equal(got, want) {
		t.Errorf("found\n%q, want\n%q", got, want)
	}
}

func TestValues(t *testing.T) {
	m := newMachine()
	all := collectors(&Source{h: m.host()})
	for name, want := range map[string]map[string]float64{
		"cpu":            nil, // no time has passed
		"ram":            {"ram_used": 75, "ram_free": 250, "ram_total": 1000},
		"swap":           {"swap_used": 25, "swap_free": 75, "swap_total": 100},
		"load":           {"load_1": 1, "load_5": 5, "load_15": 15},
		"disk_root":      {"disk_used": 50, "disk_free": 450, "disk_total": 1000},
		"disk_var_lib_a": {"disk_used": 25, "disk_free": 3, "disk_total": 10},
		// All of it is reserved, so disk_used cannot be computed.
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
	c := find(t, collectors(&Source{h: m.host()}), "cpu").Collector
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
	c := find(t, collectors(&Source{h: m.host()}), "net_eth0").Collector
	eth0 := &m.interfaces[1]
	step := func(what string, want map[string]float64) {
		t.Helper()
		m.clock = m.clock.Add(4 * time.Second)
		if got := c.Collect(); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	still := map[string]float64{"net_in": 0, "net_out": 0}
	eth0.in, eth0.out = 1400, 502
	step("from poll to poll", map[string]float64{"net_in": 100, "net_out": 1})
	eth0.in = 0
	step("counters that begin anew", nil)
	eth0.name = "eth1"
	step("an interface that is gone", nil)
	eth0.name = "eth0"
	step("an interface that has just come back", nil)
	step("an interface that is back", still)
	// The counters of another interface are not traffic of this one, however large they are.
	eth0.name = "lan0"
	m.interfaces[3].name, m.interfaces[3].in, m.interfaces[3].out = "eth0", 1_000_000, 1_000_000
	step("another interface has taken the name", nil)
	m.interfaces[3].in += 40
	step("the same, counted from its own", map[string]float64{"net_in": 10, "net_out": 0})
	m.interfaces[3].index, m.interfaces[3].in = 9, 2_000_000
	step("an interface that was made anew", nil)
	step("the same later", still)
}

// TestDiskIsADevice: the numbers of a mount point are those of its file system, whatever is mounted
// at the path later.
func TestDiskIsADevice(t *testing.T) {
	m := newMachine()
	c := find(t, collectors(&Source{h: m.host()}), "disk_var_lib_a").Collector
	mounted := m.space["/var/lib-a"]
	want := map[string]float64{"disk_used": 25, "disk_free": 3, "disk_total": 10}
	if got := c.Collect(); !maps.Equal(got, want) {
		t.Errorf("mounted: %v, want %v", got, want)
	}
	m.space["/var/lib-a"] = m.space["/"]
	if got := c.Collect(); got != nil {
		t.Errorf("unmounted: %v", got)
	}
	m.space["/var/lib-a"] = space{11, 77, 7, 70}
	if got := c.Collect(); got != nil {
		t.Errorf("another one is mounted there: %v", got)
	}
	m.space["/var/lib-a"] = mounted
	if got := c.Collect(); !maps.Equal(got, want) {
		t.Errorf("mounted again: %v, want %v", got, want)
	}
}

// TestNothingToRead: a number that could not be read is not sent as 0.
func TestNothingToRead(t *testing.T) {
	m := newMachine()
	all := collectors(&Source{h: m.host()})
	m.err = errors.New("broken")
	for _, c := range all {
		if got := c.Collector.Collect(); len(got) != 0 {
			t.Errorf("%s: %v", c.Name, got)
		}
	}
	if all := collectors(&Source{h: m.host()}); len(all) != 0 {
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
	if got := mountName("C:\\"); got != "C_" {
		t.Errorf("C: is called %q", got)
	}
}

// TestThisMachine: the numbers of the machine that runs the test make sense.
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

// TestUnits: every stat of this machine, and every stat of the table, has a unit.
func TestUnits(t *testing.T) {
	for _, c := range collectors(&Source{h: newMachine().host()}) {
		for stat := range c.Collector.Collect() {
			if Unit(stat) == "" {
				t.Errorf("%s has no unit", stat)
			}
		}
	}
	if Unit("x") != "" {
		t.Error("a unit of nothing")
	}
}

// TestShared: collectors that are polled together share a reading, later ones get a new one.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		get := shared(func() (int, error) { reads++; return reads, nil })
		begun := time.Now()
		for range 3 {
			if n, at, err := get(); n != 1 || !at.Equal(begun) || err != nil {
				t.Error(n, at, err)
			}
		}
		time.Sleep(together)
		if n, at, _ := get(); n != 2 || !at.Equal(begun.Add(together)) {
			t.Error(n, at)
		}
	})
}
