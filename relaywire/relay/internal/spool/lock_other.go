//go:build !windows && (!unix || solaris || aix)

package spool

import "os"

// lockFile only opens path: this system has no lock that ends with the process.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
