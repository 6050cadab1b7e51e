//go:build tools

// Package tools pins the server that the tests run against.
package tools

import _ "github.com/influxdata/kapacitor/cmd/kapacitord"
