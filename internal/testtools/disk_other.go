//go:build !linux

package testtools

import "testing"

// SmallDisk needs Linux.
func SmallDisk(t *testing.T, _ int) string {
	t.Fatal("a small disk needs Linux's tmpfs")
	return ""
}

// FillDisk needs Linux.
func FillDisk(t *testing.T, _ string) (free func()) {
	t.Fatal("a small disk needs Linux's tmpfs")
	return nil
}
