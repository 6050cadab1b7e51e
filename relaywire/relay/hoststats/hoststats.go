// Package hoststats has the collectors for the machine that a relay runs on: processor, memory,
// swap, load, file systems and network interfaces, read through gopsutil. It is the only part of
// the relay library that needs more than the standard library.
//
// Promise: [Watch] keeps a relay's collectors up to date with the machine: a new disk, interface or
// swap is added within half a minute, and a vanished one is removed. [Collectors] examines the
// machine once and returns a collector for everything it finds, each with a name of its own; a
// collector whose disk, interface or swap has vanished yields no readings. A reading belongs to a
// device and not to a path or a name: a path yields nothing when no file system or another one is
// mounted there, and a rate is never computed across two interfaces that had the same name one
// after the other. A value that cannot be read is left out, never sent as 0.
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
	"maps"
	"slices"
	"strings"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
)

// Named is a collector with the name and the tags to add it with.
type Named struct {
	Name      string
	Tags      []string
	Collector relay.Collector
}

// Collectors returns the machine's collectors. Each may be added to one relay only, because rates
// are computed from poll to poll; a second relay needs a second call.
func Collectors() []Named { return collectors(thisHost()) }

// AddTo adds all of Collectors to r. It stops at the first collector that r refuses.
func AddTo(r *relay.Relay) error {
	for _, c := range Collectors() {
		if err := r.AddCollector(c.Name, c.Tags, c.Collector); err != nil {
			return err
		}
	}
	return nil
}

// found is a collector that the machine can have, before it is made. Two founds of different looks
// are the same collector if their names, tags and devices are equal.
type found struct {
	name, tag string
	device    uint64 // of a file system
	make      func() relay.CollectorFunc
}

func (f found) same(g found) bool { return f.name == g.name && f.tag == g.tag && f.device == g.device }

// named makes the collector, with tags before its own tag.
func (f found) named(tags []string) Named {
	if f.tag != "" {
		tags = append(tags[:len(tags):len(tags)], f.tag)
	}
	return Named{Name: f.name, Tags: tags, Collector: f.make()}
}

// look returns the machine's collectors by kind. If a kind has an error, the look at it failed, and
// its collectors are unknown.
func look(h host) []kind {
	var all []kind
	for _, find := range []func(host) ([]found, error){findCPU, findRAM, findSwap, findLoad, findDisks, findNetworks} {
		f, err := find(h)
		all = append(all, kind{f, err})
	}
	return all
}

type kind struct {
	found []found
	err   error
}

func collectors(h host) (all []Named) {
	for _, k := range look(h) {
		for _, f := range k.found {
			all = append(all, f.named(nil))
		}
	}
	return all
}

func findCPU(h host) ([]found, error) {
	_, err := h.cpu()
	return one("cpu", true, err, func() relay.CollectorFunc { return cpuCollector(h) })
}

func findRAM(h host) ([]found, error) {
	m, err := h.memory()
	return one("ram", err == nil && m.Total > 0, err, func() relay.CollectorFunc { return ramCollector(h) })
}

func findSwap(h host) ([]found, error) {
	s, err := h.swap()
	return one("swap", err == nil && s.Total > 0, err, func() relay.CollectorFunc { return swapCollector(h) })
}

func findLoad(h host) ([]found, error) {
	_, err := h.load()
	return one("load", true, err, func() relay.CollectorFunc { return loadCollector(h) })
}

func one(name string, there bool, err error, make func() relay.CollectorFunc) ([]found, error) {
	if err != nil || !there {
		return nil, err
	}
	return []found{{name: name, make: make}}, nil
}

func findDisks(h host) (all []found, err error) {
	mounts, err := mounts(h)
	taken := map[string]bool{}
	for _, m := range mounts {
		all = append(all, found{unique("disk_"+mountName(m.path), taken), tag("mount", m.path), m.device, func() relay.CollectorFunc { return diskCollector(h, m) }})
	}
	return all, err
}

func findNetworks(h host) (all []found, err error) {
	names, err := interfaces(h)
	taken := map[string]bool{}
	for _, name := range names {
		all = append(all, found{unique("net_"+wireName(name), taken), tag("interface", name), 0, func() relay.CollectorFunc { return netCollector(h, name) }})
	}
	return all, err
}

// mountName makes a mount point usable in a name: / is root, /var/lib is var_lib, C: is C_.
func mountName(mount string) string {
	name := strings.Trim(strings.ReplaceAll(mount, "\\", "/"), "/")
	if name == "" {
		return "root"
	}
	return wireName(strings.ReplaceAll(name, "/", "_"))
}

// wireName replaces characters that a name may not hold by underscores.
func wireName(s string) string {
	s = clean(s, "-:,")
	return s[:min(len(s), relaywire.MaxName-10)] // room for a prefix and a number; clean leaves ASCII only
}

// tag returns key:value. It replaces characters that a tag may not hold and cuts the tag to its
// maximum length.
func tag(key, value string) string {
	t := key + ":" + value
	if !relaywire.ValidTag(t) {
		t = key + ":" + clean(value, ",")
	}
	return t[:min(len(t), relaywire.MaxTag)]
}

// clean replaces spaces, control characters, characters that are not ASCII and the reserved
// characters by underscores.
func clean(s, reserved string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(reserved, c) {
			return '_'
		}
		return c
	}, s)
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

// interfaces returns the names of the network interfaces that are worth watching, sorted. It leaves
// out the loopback and the interfaces that come and go with containers (veth, Calico's cali and
// Cilium's lxc) and with virtual machines (libvirt's vnet).
func interfaces(h host) (names []string, err error) {
	all, err := h.interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		passing := slices.ContainsFunc([]string{"veth", "cali", "lxc", "vnet"}, func(prefix string) bool { return strings.HasPrefix(i.name, prefix) })
		if !i.loopback && !passing {
			names = append(names, i.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
