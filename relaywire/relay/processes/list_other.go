//go:build !linux

package processes

import (
	"time"

	ps "github.com/shirou/gopsutil/v4/process"

	"github.com/nanopack/pulse/relaywire/relay/source"
)

// lister reads the processes through gopsutil.
type lister struct{}

// list returns the processes with the wanted names. What cannot be read of a process counts as 0.
func (*lister) list(wanted source.Globs) (all []process, err error) {
	found, err := ps.Processes()
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		name, err := f.Name()
		if err != nil || !wanted.Match(name) {
			continue
		}
		p := process{id: identity{pid: int(f.Pid)}, name: name}
		if started, err := f.CreateTime(); err == nil {
			p.id.started = uint64(started)
		}
		if times, err := f.Times(); err == nil {
			p.cpu = time.Duration((times.User + times.System) * float64(time.Second))
		}
		if memory, err := f.MemoryInfo(); err == nil {
			p.rss = float64(memory.RSS)
		}
		all = append(all, p)
	}
	return all, nil
}
