// Package freeport finds TCP ports for servers that tests and the bench kill and start again on the
// same port.
//
// A port that the kernel chose (port 0) is not safe for that. While nobody listens on it, the
// kernel may give it to any other socket, also as the near end of an outgoing connection. Ports of
// this package lie below the range that the kernel chooses from, and each is claimed for one user
// at a time on this machine.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

const (
	// defaultLow is the first port that Linux chooses from, where /proc does not say another.
	defaultLow = 32768
	// width is how many ports below that are used.
	width = 20_000
)

// Claim returns an address 127.0.0.1:port on which nobody listens, and the function that gives the
// port back. Until that is called, or nobody holds it any more, no other caller of Claim on this
// machine gets the port, in any process. The claim is a UDP socket with the same port number.
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
			return address, func() { _ = claim.Close() }, nil // nothing was written to it
		}
		err = errors.Join(err, claim.Close())
	}
	return "", nil, fmt.Errorf("no free port was found below %d: %w", low, err)
}

// A Cleaner is a test or benchmark.
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
