// Package hoststats has the collectors for the machine a relay runs on: processor, memory, swap,
// load, file systems and network interfaces, read through gopsutil. It is the only part of the
// relay library that needs more than the standard library.
//
// Promise: [Watch] keeps a relay's collectors as the machine is: what appears (a disk, an
// interface, swap) is added within half a minute, what goes away is removed. [Collectors] looks at
// the machine once and returns a collector for everything it finds, each with a name of its own;
// what goes away later yields no reading from then on. A reading belongs to a device and not to a
// path or a name: a path where another file system is mounted, or none any more, yields nothing,
// and a rate is never counted from one interface to another that has taken its name. A value that
// cannot be read is left out, never sent as 0.
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

// Named is a collector with what it is to be added with.
type Named struct {
	Name      string
	Tags      []string
	Collector relay.Collector
}

// Collectors returns the machine's collectors. Each may be added to one relay; a second relay needs
// a second call, because rates are counted from poll to poll.
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

// found is a collector that the machine can have, before it is made. It is the same one at the next
// look if its name, its tag and its device are.
type found struct {
	name, tag string
	device    uint64 // of a file system
	make      func() relay.CollectorFunc
}

func (f found) same(g found) bool { return f.name == g.name && f.tag == g.tag && f.device == g.device }

// named makes the collector, with tags in front of its own.
func (f found) named(tags []string) Named {
	if f.tag != "" {
		tags = append(tags[:len(tags):len(tags)], f.tag)
	}
	return Named{Name: f.name, Tags: tags, Collector: f.make()}
}

// look is what the machine has, by kind. A kind that could not be looked at has an error, which
// says nothing about what is there.
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

// clean replaces spaces, control characters, what is not ASCII and the reserved characters by
// underscores.
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

// mounts returns the physical file systems, one for each store, and / in any case (in a container
// it is none). They are sorted by path.
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
		// A store can be mounted many times over (bind mounts, subvolumes): the shortest path is
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

// interfaces returns the network interfaces that are worth watching, sorted: neither the loopback
// nor the ends that come and go with containers (veth, Calico's cali and Cilium's lxc) and virtual
// machines (libvirt's vnet).
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
