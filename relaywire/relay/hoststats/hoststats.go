// Package hoststats has the collectors for the machine a relay runs on: processor, memory, swap, load, file systems
// and network interfaces, read through gopsutil. It is the only part of the relay library that needs more than the
// standard library.
//
// Promise: Collectors looks at the machine once and returns a collector for everything it finds, each with a name of
// its own. What the machine does not have (no swap, no load on Windows) has no collector; what goes away later (an
// unplugged disk) yields no reading from then on; what appears later is found by calling Collectors again. A value
// that cannot be read is left out, never sent as 0.
//
//	collector       tag               stats
//	cpu                               cpu_used, cpu_user, cpu_system, cpu_iowait, cpu_steal: percent of all processors since the last poll
//	ram                               ram_used: percent; ram_free (what programs can still have), ram_total: bytes
//	swap                              swap_used: percent; swap_free, swap_total: bytes
//	load                              load_1, load_5, load_15: processes, mean over so many minutes
//	disk_{mount}    mount:{path}      disk_used: percent of what users may fill; disk_free, disk_total: bytes
//	net_{interface} interface:{name}  net_in, net_out: bytes a second since the last poll
//
// Percentages go from 0 to 100. On the wire a collector answers for instance cpu-cpu_used:25.5.
package hoststats

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
)

// Named is a collector with what it is to be added with.
type Named struct {
	Name      string
	Tags      []string
	Collector relay.Collector
}

// Collectors returns the machine's collectors. Each may be added to one relay; a second relay needs a second call,
// because rates are counted from poll to poll.
func Collectors() []Named { return collectors(thisHost()) }

// AddTo adds all of Collectors to r. It stops at the first that r refuses.
func AddTo(r *relay.Relay) error {
	for _, c := range Collectors() {
		if err := r.AddCollector(c.Name, c.Tags, c.Collector); err != nil {
			return err
		}
	}
	return nil
}

func collectors(h host) (all []Named) {
	add := func(name, tag string, collect relay.CollectorFunc) {
		n := Named{Name: name, Collector: collect}
		if tag != "" {
			n.Tags = []string{tag}
		}
		all = append(all, n)
	}
	if _, err := h.cpu(); err == nil {
		add("cpu", "", cpuCollector(h))
	}
	if m, err := h.memory(); err == nil && m.Total > 0 {
		add("ram", "", ramCollector(h))
	}
	if s, err := h.swap(); err == nil && s.Total > 0 {
		add("swap", "", swapCollector(h))
	}
	if _, err := h.load(); err == nil {
		add("load", "", loadCollector(h))
	}
	taken := map[string]bool{}
	for _, mount := range mounts(h) {
		add(unique("disk_"+mountName(mount), taken), tag("mount", mount), diskCollector(h, mount))
	}
	for _, name := range interfaces(h) {
		add(unique("net_"+wireName(name), taken), tag("interface", name), netCollector(h, name))
	}
	return all
}

// mountName makes a mount point usable in a name: / is root, /var/lib is var_lib, C: is C_.
func mountName(mount string) string {
	name := strings.Trim(strings.ReplaceAll(mount, "\\", "/"), "/")
	if name == "" {
		return "root"
	}
	return wireName(strings.ReplaceAll(name, "/", "_"))
}

// wireName replaces what a name may not hold by underscores.
func wireName(s string) string {
	s = clean(s, "-:,")
	return s[:min(len(s), relaywire.MaxName-10)] // room for a prefix and a number; clean leaves ASCII only
}

// tag makes key:value with a value that a tag may hold, cut to the longest that it may be.
func tag(key, value string) string {
	t := key + ":" + value
	if !relaywire.ValidTag(t) {
		t = key + ":" + clean(value, ",")
	}
	return t[:min(len(t), relaywire.MaxTag)]
}

// clean replaces spaces, control characters, what is not ASCII and the reserved characters by underscores.
func clean(s, reserved string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(reserved, c) {
			return '_'
		}
		return c
	}, s)
}

// unique tells names apart that only differed in characters that had to be replaced.
func unique(name string, taken map[string]bool) string {
	result := name
	for n := 2; taken[result]; n++ {
		result = fmt.Sprintf("%s_%d", name, n)
	}
	taken[result] = true
	return result
}

// mounts returns the mount points of physical file systems, one for each device, and / in any case (in a container it
// is none).
func mounts(h host) []string {
	found := map[string]string{} // by device
	partitions, _ := h.partitions()
	for _, p := range partitions {
		// Read-only images are always full.
		if slices.Contains([]string{"squashfs", "iso9660", "erofs", "cramfs", "udf"}, p.Fstype) {
			continue
		}
		if u, err := h.usage(p.Mountpoint); err != nil || u.Total == 0 {
			continue
		}
		// A device can be mounted many times over (bind mounts, subvolumes): the shortest path is the one that people
		// mean.
		if old, ok := found[p.Device]; !ok || len(p.Mountpoint) < len(old) || len(p.Mountpoint) == len(old) && p.Mountpoint < old {
			found[p.Device] = p.Mountpoint
		}
	}
	var list []string
	for _, mount := range found {
		list = append(list, mount)
	}
	if u, err := h.usage("/"); err == nil && u.Total > 0 && !slices.Contains(list, "/") {
		list = append(list, "/")
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// interfaces returns the network interfaces that are worth watching: neither the loopback nor the ends that come and
// go with containers.
func interfaces(h host) (names []string) {
	counters, err := h.network()
	if err != nil {
		return nil
	}
	loopback := h.loopback()
	for _, c := range counters {
		if !loopback[c.Name] && !strings.HasPrefix(c.Name, "veth") {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
