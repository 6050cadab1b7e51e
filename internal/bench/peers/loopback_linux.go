package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// onLoopback keeps a listener of all addresses from being reached over another device.
func onLoopback(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }); controlErr != nil {
		return controlErr
	}
	return err
}
