//go:build tools

// Package tools pins a server that `make bench-peers` compares Pulse with.
package tools

import _ "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"
