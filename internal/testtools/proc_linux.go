package testtools

import "syscall"

// dieWithParent has the kernel kill the server when the test process ends in
// whatever way, so that a panicking test leaves no server behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
