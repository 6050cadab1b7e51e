// Package hoststats has the collectors for the machine that a relay runs on: processor, memory,
// swap, load, file systems, disks and network interfaces, mostly read through gopsutil.
//
// Promise: [Watch] keeps a relay's collectors up to date with the machine: a new disk, interface or
// swap is added within half a minute, and a vanished one is removed. [Collectors] examines the
// machine once and returns a collector for everything it finds, each with a name of its own; a
// collector whose disk, interface or swap has vanished yields no readings. A reading belongs to a
// device and not to a path or a name: a path yields nothing when no file system or another one is
// mounted there, and a rate is never computed across two interfaces that had the same name one
// after the other. A value that cannot be read is left out, never sent as 0. In a container, cpu and
// ram are those of its limits, where it has limits.
//
//	collector       tag               stats
//	cpu                               cpu_used, cpu_user, cpu_system, cpu_iowait, cpu_steal: percent of all processors since the last poll;
//	                                  in a container with a quota of processors: percent of the quota, without cpu_iowait and cpu_steal
//	ram                               ram_used: percent; ram_free (what programs can still have), ram_total: bytes
//	swap                              swap_used: percent; swap_free, swap_total: bytes
//	load                              load_1, load_5, load_15: processes, mean over so many minutes
//	disk_{mount}    mount:{path}      disk_used: percent of what users may fill; disk_free, disk_total: bytes
//	io_{device}     device:{name}     io_read_bytes, io_write_bytes: bytes a second since the last poll; io_reads, io_writes: operations
//	                                  a second; io_busy: percent of the time
//	net_{interface} interface:{name}  net_in, net_out: bytes a second since the last poll
//
// Percentages go from 0 to 100, rounded to 0.01; bytes are whole. On the wire a collector answers for instance cpu-cpu_used:25.5.
package hoststats

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// Named is a collector with the name and the tags to add it with.
type Named struct {
	Name      string
	Tags      []string
	Collector relay.Collector
}

// Collectors returns the machine's collectors. Each may be added to one relay only, because rates
// are computed from poll to poll; a second relay needs a second call.
func Collectors() []Named { return collectors(New(Options{})) }

// AddTo adds all of Collectors to r. It stops at the first collector that r refuses.
func AddTo(r *relay.Relay) error {
	for _, c := range Collectors() {
		if err := r.AddCollector(c.Name, c.Tags, c.Collector); err != nil {
			return err
		}
	}
	return nil
}

// look returns the machine's collectors, a group a kind. If a group has an error, the look at that kind
// failed, and its collectors are unknown.
func look(h host, o Options) (groups []source.Group) {
	for _, find := range []func(host, Options) ([]source.Collector, error){findCPU, findRAM, findSwap, findLoad, findDisks, findDevices, findNetworks} {
		found, err := find(h, o)
		groups = append(groups, source.Group{Collectors: found, Err: err})
	}
	return groups
}

func collectors(s *Source) (all []Named) {
	for _, g := range s.Look() {
		for _, c := range g.Collectors {
			all = append(all, Named{c.Name, c.Tags, c.New()})
		}
	}
	return all
}

func findCPU(h host, _ Options) ([]source.Collector, error) {
	if h.limits().processors > 0 { // the identity makes another collector when the quota comes or goes
		return []source.Collector{found("cpu", "", 1, func() relay.CollectorFunc { return quotaCollector(h) })}, nil
	}
	_, err := h.cpu()
	return one("cpu", true, err, func() relay.CollectorFunc { return cpuCollector(h) })
}

func findRAM(h host, _ Options) ([]source.Collector, error) {
	m, err := h.memory()
	return one("ram", err == nil && m.Total > 0, err, func() relay.CollectorFunc { return ramCollector(h) })
}

func findSwap(h host, _ Options) ([]source.Collector, error) {
	s, err := h.swap()
	return one("swap", err == nil && s.Total > 0, err, func() relay.CollectorFunc { return swapCollector(h) })
}

func findLoad(h host, _ Options) ([]source.Collector, error) {
	_, err := h.load()
	return one("load", true, err, func() relay.CollectorFunc { return loadCollector(h) })
}

func one(name string, there bool, err error, make func() relay.CollectorFunc) ([]source.Collector, error) {
	if err != nil || !there {
		return nil, err
	}
	return []source.Collector{found(name, "", 0, make)}, nil
}

func found(name, tag string, identity uint64, make func() relay.CollectorFunc) source.Collector {
	var tags []string
	if tag != "" {
		tags = []string{tag}
	}
	return source.Collector{Name: name, Tags: tags, Identity: identity, New: func() relay.Collector { return make() }}
}

func findDisks(h host, o Options) (all []source.Collector, err error) {
	mounts, err := mounts(h)
	taken := map[string]bool{}
	for _, m := range mounts {
		if o.Mounts.Allows(m.path, nil) {
			all = append(all, found(unique("disk_"+mountName(m.path), taken), source.Tag("mount", m.path), m.device, func() relay.CollectorFunc { return diskCollector(h, m) }))
		}
	}
	return all, err
}

func findDevices(h host, o Options) (all []source.Collector, err error) {
	devices, err := h.devices()
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, d := range devices {
		// A device that was never used is a slot without a disk, as nbd0 to nbd15 are.
		if !d.partition && d.reads+d.writes > 0 && o.Devices.Allows(d.name, DefaultDevicesExclude()) {
			all = append(all, found(unique("io_"+source.Name(d.name), taken), source.Tag("device", d.name), d.number, func() relay.CollectorFunc { return deviceCollector(h, d.name) }))
		}
	}
	return all, nil
}

func findNetworks(h host, o Options) (all []source.Collector, err error) {
	names, err := interfaces(h, o)
	taken := map[string]bool{}
	for _, name := range names {
		all = append(all, found(unique("net_"+source.Name(name), taken), source.Tag("interface", name), 0, func() relay.CollectorFunc { return netCollector(h, name) }))
	}
	return all, err
}

// mountName makes a mount point usable in a name: / is root, /var/lib is var_lib, C: is C_.
func mountName(mount string) string {
	name := strings.Trim(strings.ReplaceAll(mount, "\\", "/"), "/")
	if name == "" {
		return "root"
	}
	return source.Name(strings.ReplaceAll(name, "/", "_"))
}

// unique returns name, with a number added if the name is taken. Names can become equal when their
// characters are replaced.
func unique(name string, taken map[string]bool) string {
	result := name
	for n := 2; taken[result]; n++ {
		result = fmt.Sprintf("%s_%d", name, n)
	}
	taken[result] = true
	return result
}

// mounts returns the physical file systems, one for each store, sorted by path. They always include
// /, even in a container, where / is not a physical file system.
func mounts(h host) ([]mount, error) {
	all, err := h.mounts()
	if err != nil {
		return nil, err
	}
	best := map[string]mount{} // by store
	for _, m := range all {
		// Read-only images are always full.
		if slices.Contains([]string{"squashfs", "iso9660", "erofs", "cramfs", "udf"}, m.fstype) {
			continue
		}
		if s, err := h.space(m.path); err != nil || s.total == 0 || s.device != m.device {
			continue
		}
		// A store can be mounted at several paths (bind mounts, subvolumes): the shortest path is
		// the one that people mean.
		if old, ok := best[m.store]; !ok || len(m.path) < len(old.path) || len(m.path) == len(old.path) && m.path < old.path {
			best[m.store] = m
		}
	}
	list := slices.SortedFunc(maps.Values(best), func(a, b mount) int { return strings.Compare(a.path, b.path) })
	if len(list) == 0 || list[0].path != "/" { // it would be the first
		if s, err := h.space("/"); err == nil && s.total > 0 {
			list = slices.Insert(list, 0, mount{path: "/", device: s.device})
		}
	}
	return list, nil
}

// interfaces returns the names of the network interfaces to report, sorted.
func interfaces(h host, o Options) (names []string, err error) {
	all, _, err := h.interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if !i.loopback && o.Interfaces.Allows(i.name, DefaultInterfacesExclude()) {
			names = append(names, i.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
