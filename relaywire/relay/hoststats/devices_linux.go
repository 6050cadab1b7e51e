package hoststats

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sector is the unit of /proc/diskstats, whatever the sectors of the disk are.
const sector = 512

// systemDevices reads the disks with their counters.
func systemDevices() ([]blockDevice, error) {
	table, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return nil, err
	}
	all := parseDiskstats(table)
	for i, d := range all {
		// sysfs writes ! for the slash of names such as cciss/c0d0.
		_, err := os.Lstat("/sys/class/block/" + strings.ReplaceAll(d.name, "/", "!") + "/partition")
		all[i].partition = err == nil
	}
	return all, nil
}

// systemCounters reads the disks with their counters, without whether they are partitions.
func systemCounters() ([]blockDevice, error) {
	table, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return nil, err
	}
	return parseDiskstats(table), nil
}

// parseDiskstats reads the kernel's iostats:
//
//	8 0 sda 4715 1214 364354 2134 8943 6532 543266 9234 0 8123 11368 ...
//	        reads     sectors     writes    sectors       ms busy
func parseDiskstats(table []byte) (all []blockDevice) {
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) < 14 {
			continue
		}
		var n [13]uint64 // those of f that are used
		var err error
		for _, i := range [...]int{0, 1, 3, 5, 7, 9, 12} {
			if n[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				break
			}
		}
		if err == nil && n[0] <= 1<<32-1 && n[1] <= 1<<32-1 {
			all = append(all, blockDevice{
				name: f[2], number: unix.Mkdev(uint32(n[0]), uint32(n[1])), hasBusy: true,
				reads: n[3], readBytes: n[5] * sector, writes: n[7], writeBytes: n[9] * sector, busy: n[12],
			})
		}
	}
	return all
}
