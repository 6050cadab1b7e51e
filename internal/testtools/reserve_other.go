//go:build !linux

package testtools

import (
	"net"
	"syscall"
)

// reserve finds a free port of 127.0.0.1. On systems other than Linux nothing keeps the port while
// the proxy refuses connections.
func reserve() (release func(), address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	return func() {}, l.Addr().String(), l.Close()
}

var share func(network, address string, c syscall.RawConn) error
