package hoststats

import (
	"errors"
	"math"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

var errNothing = errors.New("hoststats: the system reports nothing")

func errOr(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}

// percent returns part as a percentage of whole, rounded and kept between 0 and 100: counters that
// were read one after the other can differ by a little.
func percent(part, whole float64) float64 { return min(max(source.Round(100*part/whole), 0), 100) }

// cpuCollector measures from its creation to the first poll, and then from poll to poll.
func cpuCollector(h host) relay.CollectorFunc {
	last, lastErr := h.cpu()
	return func() map[string]float64 {
		now, err := h.cpu()
		before, usable := last, lastErr == nil && err == nil
		last, lastErr = now, err
		// Counters that went backwards (a resumed virtual machine) give no reading, nor do counters
		// that did not move because two polls came within one tick.
		total := cpuTotal(now) - cpuTotal(before)
		if !usable || total <= 0 {
			return nil
		}
		idle := now.Idle - before.Idle + now.Iowait - before.Iowait
		return map[string]float64{
			"cpu_used":   percent(total-idle, total),
			"cpu_user":   percent(now.User+now.Nice-before.User-before.Nice, total),
			"cpu_system": percent(now.System+now.Irq+now.Softirq-before.System-before.Irq-before.Softirq, total),
			"cpu_iowait": percent(now.Iowait-before.Iowait, total),
			"cpu_steal":  percent(now.Steal-before.Steal, total),
		}
	}
}

// cpuTotal leaves out the guest times, because user and nice contain them.
func cpuTotal(t cpu.TimesStat) float64 {
	return t.User + t.Nice + t.System + t.Idle + t.Iowait + t.Irq + t.Softirq + t.Steal
}

func ramCollector(h host) relay.CollectorFunc {
	return func() map[string]float64 {
		m, err := h.memory()
		if err != nil || m.Total == 0 {
			return nil
		}
		total, free := float64(m.Total), float64(min(m.Available, m.Total))
		if l := h.limits(); l.memory > 0 && l.memory < m.Total {
			total, free = float64(l.memory), min(float64(l.memory-min(l.used, l.memory)), free)
			return map[string]float64{"ram_used": percent(float64(l.used), total), "ram_free": free, "ram_total": total}
		}
		return map[string]float64{"ram_used": percent(total-free, total), "ram_free": free, "ram_total": total}
	}
}

func swapCollector(h host) relay.CollectorFunc {
	return func() map[string]float64 {
		s, err := h.swap()
		if err != nil || s.Total == 0 {
			return nil
		}
		total, free := float64(s.Total), float64(min(s.Free, s.Total))
		return map[string]float64{"swap_used": percent(total-free, total), "swap_free": free, "swap_total": total}
	}
}

func loadCollector(h host) relay.CollectorFunc {
	return func() map[string]float64 {
		l, err := h.load()
		if err != nil {
			return nil
		}
		return map[string]float64{"load_1": source.Round(l.Load1), "load_5": source.Round(l.Load5), "load_15": source.Round(l.Load15)}
	}
}

// diskCollector reports the same as df: used as a percentage of used and free together, without the
// space reserved for root. It reports nothing while another file system is at the path: after an
// unmount the path belongs to the parent file system.
func diskCollector(h host, m mount) relay.CollectorFunc {
	return func() map[string]float64 {
		s, err := h.space(m.path)
		if err != nil || s.total == 0 || s.device != m.device {
			return nil
		}
		values := map[string]float64{"disk_free": float64(s.free), "disk_total": float64(s.total)}
		if fillable := float64(s.used) + float64(s.free); fillable > 0 {
			values["disk_used"] = percent(float64(s.used), fillable)
		}
		return values
	}
}

// netCollector measures from its creation to the first poll, and then from poll to poll. When
// another interface has taken the name, netCollector starts again with that interface's counters.
func netCollector(h host, name string) relay.CollectorFunc {
	read := func() (c iface, at time.Time, ok bool) {
		all, at, err := h.interfaces()
		if err != nil {
			return iface{}, time.Time{}, false
		}
		for _, c := range all {
			if c.name == name {
				return c, at, true
			}
		}
		return iface{}, time.Time{}, false
	}
	last, at, ok := read()
	return func() map[string]float64 {
		before, beforeAt, usable := last, at, ok
		last, at, ok = read()
		seconds := at.Sub(beforeAt).Seconds()
		// Counters of one interface that went backwards were reset, so they give no reading.
		if !usable || !ok || last.index != before.index || seconds <= 0 || last.in < before.in || last.out < before.out {
			return nil
		}
		return map[string]float64{"net_in": math.Round(float64(last.in-before.in) / seconds), "net_out": math.Round(float64(last.out-before.out) / seconds)}
	}
}

// deviceCollector measures from its creation to the first poll, and then from poll to poll.
func deviceCollector(h host, name string) relay.CollectorFunc {
	read := func() (d blockDevice, at time.Time, ok bool) {
		all, at, err := h.counters()
		if err != nil {
			return blockDevice{}, time.Time{}, false
		}
		for _, d := range all {
			if d.name == name {
				return d, at, true
			}
		}
		return blockDevice{}, time.Time{}, false
	}
	last, at, ok := read()
	return func() map[string]float64 {
		before, beforeAt, usable := last, at, ok
		last, at, ok = read()
		seconds := at.Sub(beforeAt).Seconds()
		// Counters that went backwards belong to another disk, or were reset.
		if !usable || !ok || last.number != before.number || seconds <= 0 || last.reads < before.reads || last.writes < before.writes ||
			last.readBytes < before.readBytes || last.writeBytes < before.writeBytes || last.busy < before.busy {
			return nil
		}
		values := map[string]float64{
			"io_read_bytes": math.Round(float64(last.readBytes-before.readBytes) / seconds), "io_write_bytes": math.Round(float64(last.writeBytes-before.writeBytes) / seconds),
			"io_reads": source.Round(float64(last.reads-before.reads) / seconds), "io_writes": source.Round(float64(last.writes-before.writes) / seconds),
		}
		if last.hasBusy {
			values["io_busy"] = percent(float64(last.busy-before.busy)/1000, seconds)
		}
		return values
	}
}
