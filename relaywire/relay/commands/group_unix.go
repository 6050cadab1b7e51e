//go:build unix

package commands

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

var shell = [2]string{"/bin/sh", "-c"}

// ownGroup starts the command in a process group of its own, and has the whole group killed when
// its context ends.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
}

// killRest kills what is left of the command's group. The group keeps its number for as long as it
// has members; without members nothing is killed.
func killRest(cmd *exec.Cmd) { _ = killGroup(cmd) }

func killGroup(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
