//go:build unix && !solaris && !aix

package spool

import (
	"os"
	"syscall"
)

// lockFile opens path so that no other process can, until the file is closed or the process ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if err == syscall.EWOULDBLOCK {
			err = ErrInUse
		}
		return nil, err
	}
	return f, nil
}
