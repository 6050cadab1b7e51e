//go:build unix && !linux

package hoststats

import (
	"io/fs"
	"syscall"
)

// device tells file systems apart.
func device(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
