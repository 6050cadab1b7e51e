package main

import (
	"net"
	"testing"
)

func TestFromHere(t *testing.T) {
	for address, want := range map[string]string{"0.0.0.0:8080": "localhost:8080", "[::]:1": "localhost:1", "127.0.0.1:8080": "127.0.0.1:8080", "[::1]:2": "[::1]:2"} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := fromHere(tcp); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}
