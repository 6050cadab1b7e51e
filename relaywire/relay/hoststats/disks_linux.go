package hoststats

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemMounts reads the mounts of this process. The mounts of process 1 may be in another
// namespace, where the same paths mean other files.
func systemMounts() ([]mount, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return nil, err
	}
	var all []mount
	for _, e := range parseMounts(table, parseFilesystems(kinds)) {
		// A mount is hidden if another mount is at its path or above it.
		if device, id, err := mountedAt(e.path); err == nil && (id == 0 || id == e.id) {
			e.device = device
			all = append(all, e.mount)
		}
	}
	return all, nil
}

// mountedAt returns the device at path and the id of the mount. The id is 0 where the kernel does
// not report it (before 5.8, or because of a filter of system calls).
func mountedAt(path string) (device, id uint64, err error) {
	var sx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &sx); err == nil {
		if sx.Mask&unix.STATX_MNT_ID != 0 {
			id = sx.Mnt_id
		}
		return unix.Mkdev(sx.Dev_major, sx.Dev_minor), id, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Dev), 0, nil
}

// systemSpace reads the file system's numbers and its device through one descriptor, so that both
// belong to the same file system.
func systemSpace(path string) (space, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return space{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return space{}, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return space{}, err
	}
	block := uint64(fs.Bsize)
	return space{device: uint64(st.Dev), total: fs.Blocks * block, used: (fs.Blocks - fs.Bfree) * block, free: fs.Bavail * block}, nil
}

// mountEntry is one line of mountinfo.
type mountEntry struct {
	mount
	id uint64
}

// parseMounts reads mountinfo(5) and keeps the file systems whose type is in onDevice:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	id     store      path                       type
func parseMounts(table []byte, onDevice map[string]bool) (all []mountEntry) {
	for line := range bytes.Lines(table) {
		before, after, _ := strings.Cut(string(line), " - ")
		place, source := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(source) < 2 || !onDevice[source[0]] {
			continue
		}
		id, err := strconv.ParseUint(place[0], 10, 64)
		if err != nil {
			continue
		}
		all = append(all, mountEntry{mount{path: unescape(place[4]), fstype: source[0], store: place[2]}, id})
	}
	return all
}

// parseFilesystems returns the types of file systems that are on devices. ZFS is added because the
// kernel lists it as a type without a device although it is on devices.
func parseFilesystems(kinds []byte) map[string]bool {
	onDevice := map[string]bool{"zfs": true}
	for line := range bytes.Lines(kinds) {
		if f := strings.Fields(string(line)); len(f) == 1 {
			onDevice[f[0]] = true
		}
	}
	return onDevice
}

// unescape replaces the octal numbers that mountinfo writes for blanks and backslashes in paths.
func unescape(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if c, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
