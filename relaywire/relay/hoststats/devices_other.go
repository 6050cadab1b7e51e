//go:build !linux

package hoststats

import (
	"maps"
	"slices"

	"github.com/shirou/gopsutil/v4/disk"
)

// systemDevices reads the disks with their counters. Systems other than Linux list no partitions
// here.
func systemDevices() (all []blockDevice, err error) {
	counters, err := disk.IOCounters()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		c := counters[name]
		all = append(all, blockDevice{
			name: name, reads: c.ReadCount, writes: c.WriteCount, readBytes: c.ReadBytes, writeBytes: c.WriteBytes,
			busy: c.IoTime, hasBusy: c.IoTime > 0,
		})
	}
	return all, nil
}

func systemCounters() ([]blockDevice, error) { return systemDevices() }
