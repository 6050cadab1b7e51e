package testtools

import "syscall"

// dieWithParent has the kernel kill the server when the test process ends for any reason, so that a
// test that panics leaves no server running.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
