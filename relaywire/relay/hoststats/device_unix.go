//go:build unix && !linux

package hoststats

import (
	"io/fs"
	"syscall"
)

// device returns the number of the device that the file is on, which identifies the file system.
func device(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
