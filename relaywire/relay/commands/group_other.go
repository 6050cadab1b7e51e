//go:build !unix

package commands

import "os/exec"

var shell = [2]string{"cmd", "/C"}

// ownGroup leaves it at the command itself: only it is killed.
func ownGroup(*exec.Cmd) {}

func killRest(*exec.Cmd) {}
