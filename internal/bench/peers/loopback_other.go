//go:build !linux

package main

import (
	"errors"
	"syscall"
)

func onLoopback(_, _ string, _ syscall.RawConn) error { return errors.New("this needs Linux") }
