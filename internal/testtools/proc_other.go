//go:build !linux

package testtools

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
