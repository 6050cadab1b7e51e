//go:build tools

// Package tools pins a server that `make bench-peers` compares Pulse with.
package tools

import _ "github.com/prometheus/prometheus/cmd/prometheus"
