// Package freeport finds TCP ports for servers that tests and the bench kill and start again on the
// same port.
//
// A port that the kernel chose (port 0) is not safe for that. While no server listens on the port,
// the kernel may give it to any other socket, even to the local end of an outgoing connection. The
// ports of this package lie below the range that the kernel chooses from. Each port is claimed by
// one user at a time on this machine.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

const (
	// defaultLow is the first port that Linux chooses from, if /proc does not name another one.
	defaultLow = 32768
	// width is how many ports below the kernel's range are used.
	width = 20_000
)

// Claim returns an address 127.0.0.1:port on which no server listens, and the function that gives
// the port back. No other caller of Claim on this machine, in any process, gets the port until that
// function is called or this process ends. The claim is a UDP socket with the same port number.
func Claim() (address string, release func(), err error) {
	low := defaultLow
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(text), &low); err != nil {
			return "", nil, fmt.Errorf("the range of local ports: %w", err)
		}
	}
	first := max(low-width, 1024)
	if low <= first {
		return "", nil, fmt.Errorf("the kernel chooses local ports from %d on: no port is left below", low)
	}
	for range 1000 {
		address = fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(low-first))
		var claim net.PacketConn
		if claim, err = net.ListenPacket("udp", address); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			err = l.Close()
		}
		if err == nil {
			return address, func() { _ = claim.Close() }, nil // nothing was written to the socket
		}
		err = errors.Join(err, claim.Close())
	}
	return "", nil, fmt.Errorf("no free port was found below %d: %w", low, err)
}

// A Cleaner is a test or a benchmark.
type Cleaner interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// Of claims a port until the end of a test.
func Of(t Cleaner) (address string) {
	t.Helper()
	address, release, err := Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}
