package hoststats

import (
	"maps"
	"testing"
	"time"
)

func TestDeviceRates(t *testing.T) {
	m := newMachine()
	c := find(t, collectors(&Source{h: m.host()}), "io_sda").Collector
	sda := &m.devices[0]
	step := func(what string, want map[string]float64) {
		t.Helper()
		m.clock = m.clock.Add(4 * time.Second)
		if got := c.Collect(); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	still := map[string]float64{"io_read_bytes": 0, "io_write_bytes": 0, "io_reads": 0, "io_writes": 0, "io_busy": 0}
	step("nothing happens", still)
	sda.reads, sda.readBytes, sda.writes, sda.writeBytes, sda.busy = sda.reads+9, sda.readBytes+4096, sda.writes+1, sda.writeBytes+2, sda.busy+1000
	step("from poll to poll", map[string]float64{"io_read_bytes": 1024, "io_write_bytes": 1, "io_reads": 2.25, "io_writes": 0.25, "io_busy": 25})
	sda.hasBusy = false
	step("a system that does not count busy", map[string]float64{"io_read_bytes": 0, "io_write_bytes": 0, "io_reads": 0, "io_writes": 0})
	sda.reads = 0
	step("counters that begin anew", nil)
	sda.number++
	step("another disk has taken the name", nil)
	sda.name = "sdz"
	step("a disk that is gone", nil)
}

// TestContainer: in a container with limits, cpu and ram are those of the limits.
func TestContainer(t *testing.T) {
	m := newMachine()
	m.limits = limits{memory: 400, used: 100, processors: 2, cpu: time.Hour, user: time.Hour}
	all := collectors(&Source{h: m.host()})
	ram, cpu := find(t, all, "ram").Collector, find(t, all, "cpu").Collector
	expect := func(what string, got, want map[string]float64) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("memory, of which the host has less than the container may take", ram.Collect(), map[string]float64{"ram_used": 25, "ram_free": 250, "ram_total": 400})
	m.limits.used = 300
	expect("memory", ram.Collect(), map[string]float64{"ram_used": 75, "ram_free": 100, "ram_total": 400})
	m.limits.used = 500
	expect("memory beyond the limit", ram.Collect(), map[string]float64{"ram_used": 100, "ram_free": 0, "ram_total": 400})
	m.limits.memory = 1 << 62
	expect("no limit", ram.Collect(), map[string]float64{"ram_used": 75, "ram_free": 250, "ram_total": 1000})

	expect("no time has passed", cpu.Collect(), nil)
	m.clock = m.clock.Add(10 * time.Second)
	m.limits.cpu, m.limits.user, m.limits.system = m.limits.cpu+5*time.Second, m.limits.user+4*time.Second, m.limits.system+time.Second
	expect("a quarter of two processors", cpu.Collect(), map[string]float64{"cpu_used": 25, "cpu_user": 20, "cpu_system": 5})
	m.clock = m.clock.Add(10 * time.Second)
	m.limits.cpu = 0
	expect("counters that begin anew", cpu.Collect(), nil)
	m.limits = limits{}
	m.clock = m.clock.Add(10 * time.Second)
	expect("a quota that is gone", cpu.Collect(), nil)
}
