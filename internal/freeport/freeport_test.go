package freeport

import (
	"net"
	"testing"
)

// Claimed ports are all different, a server can listen on one again and again, and released ports
// can be claimed again.
func TestClaim(t *testing.T) {
	seen := make(map[string]bool)
	for range 200 {
		address := Of(t)
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
		for range 2 {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
		}
	}
	address, release, err := Claim()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.ListenPacket("udp", address); err == nil {
		t.Error("another process could claim it too")
	}
	release()
	claim, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatalf("it is not given back: %v", err)
	}
	claim.Close()
}
