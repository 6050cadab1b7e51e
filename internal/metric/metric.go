// Package metric registers Prometheus metrics.
package metric

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers a metric and returns it. If the name is registered already by an earlier
// owner, Register returns that owner's metric, which keeps its count. Register panics on any other
// error, as MustRegister does, because such an error is a mistake in the program.
func Register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if err == nil {
		return c
	}
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			return old
		}
	}
	panic(err)
}
