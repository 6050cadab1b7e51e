package metric

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRegister(t *testing.T) {
	reg := prometheus.NewRegistry()
	make := func(help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "a_total", Help: help})
	}
	first := Register(reg, make("a"))
	if Register(reg, make("a")) != first {
		t.Error("the second is not the first")
	}
	defer func() {
		if recover() == nil {
			t.Error("another metric of the same name is taken")
		}
	}()
	Register(reg, make("b"))
}
