package journal

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// value returns the value of a counter or gauge.
func value(tb testing.TB, c prometheus.Metric) float64 {
	tb.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		tb.Fatal(err)
	}
	if m.Gauge != nil {
		return m.Gauge.GetValue()
	}
	return m.Counter.GetValue()
}

// A second journal on the same registry is refused, and a closed journal leaves no metric
// registered.
func TestMetricsAreRegisteredOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	j := open(t, Options{Registerer: reg})
	if _, err := tryOpen(t, Options{Registerer: reg}); err == nil {
		t.Error("two journals share a registry")
	}
	closeJournal(t, j)
	families, err := reg.Gather()
	if err != nil || len(families) != 0 {
		t.Errorf("after Close the registry has %d families, %v", len(families), err)
	}
	open(t, Options{Registerer: reg})
}
