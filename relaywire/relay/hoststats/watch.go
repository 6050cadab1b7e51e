package hoststats

import (
	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// Watcher keeps a relay's collectors up to date with the machine.
type Watcher = source.Watcher

// Watch adds all of [Collectors] to r, with tags before their own, and keeps them up to date with
// the machine until Close. The error is that of the first collector that r refuses. A collector of
// the same name that the program itself has added stays. Programs with further sources, or with
// options, give New's source to source.Watch instead.
func Watch(r *relay.Relay, tags []string) (*Watcher, error) {
	return source.Watch(r, tags, New(Options{}))
}

// Options choose what is reported of the machine. The zero Options are the defaults.
type Options struct {
	// Mounts chooses file systems by their mount points. By default all are reported.
	Mounts source.Filter
	// Devices chooses the disks whose reads and writes are reported, such as sda. By default those of
	// DefaultDevicesExclude are left out.
	Devices source.Filter
	// Interfaces chooses network interfaces. By default those of DefaultInterfacesExclude are left
	// out; the loopback always is.
	Interfaces source.Filter
}

// DefaultDevicesExclude are the disks that are left out by default: loop devices, memory, and drives
// for discs.
func DefaultDevicesExclude() source.Globs {
	return source.Globs{"fd*", "loop*", "ram*", "sr*", "zram*"}
}

// DefaultInterfacesExclude are the interfaces that are left out by default: those that come and go
// with containers (Docker's bridges, the ends of veth pairs, Calico's cali, Cilium's lxc, other
// plug-ins' cni), with virtual machines (libvirt's vnet), and for the shaping of traffic (ifb).
func DefaultInterfacesExclude() source.Globs {
	return source.Globs{"br-*", "cali*", "cni*", "docker0", "ifb*", "lxc*", "veth*", "vnet*"}
}

// Source examines the machine. It implements source.Source.
type Source struct {
	h host
	o Options
}

// New returns the source of this machine's collectors.
func New(o Options) *Source { return &Source{thisHost(), o} }

// Look implements source.Source. It has a group for each kind of collector.
func (s *Source) Look() []source.Group { return look(s.h, s.o) }

// Close implements source.Source.
func (s *Source) Close() {}
