//go:build !linux

package hoststats

import (
	"errors"
	"os"

	"github.com/shirou/gopsutil/v4/disk"
)

var errReplaced = errors.New("hoststats: the file system was replaced while it was read")

func systemMounts() ([]mount, error) {
	partitions, err := disk.Partitions(false)
	if err != nil {
		return nil, err
	}
	var all []mount
	for _, p := range partitions {
		info, err := os.Stat(p.Mountpoint)
		if err != nil {
			continue
		}
		all = append(all, mount{path: p.Mountpoint, fstype: p.Fstype, device: device(info), store: p.Device})
	}
	return all, nil
}

// systemSpace reads the device before and after the numbers, because disk.Usage takes only a path.
func systemSpace(path string) (space, error) {
	before, err := os.Stat(path)
	if err != nil {
		return space{}, err
	}
	u, err := disk.Usage(path)
	if err != nil {
		return space{}, err
	}
	after, err := os.Stat(path)
	if err != nil {
		return space{}, err
	}
	if device(before) != device(after) {
		return space{}, errReplaced
	}
	return space{device: device(after), total: u.Total, used: u.Used, free: u.Free}, nil
}
