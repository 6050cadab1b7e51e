package link

import (
	"math"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

func lacksGauge(tb testing.TB, edge *node) float64 {
	tb.Helper()
	var m dto.Metric
	if err := edge.uplink.m.lacks.Write(&m); err != nil {
		tb.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

// An edge that starts without a link does not know what the hub has, whatever the hub had before, and
// says no numbers.
func TestUnknownUntilConnected(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	hub.listen()
	edge.make(50)
	edge.connect(hub.addr)
	edge.level()
	hub.close()
	edge.close()

	edge.open()
	edge.connect(hub.addr)
	eventually(t, "the edge finds no hub", func() bool { return edge.uplink.Status().Error != "" })
	if s := edge.uplink.Status(); s.Known || s.HubHas != 0 || s.Lacks != 0 || s.Last != 50 {
		t.Errorf("without a link it says %+v", s)
	}
	if v := lacksGauge(t, edge); !math.IsNaN(v) {
		t.Errorf("without a link the gauge is %v", v)
	}

	hub.open()
	hub.listen()
	edge.level()
	if s := edge.uplink.Status(); !s.Known || s.HubHas != 50 || s.Lacks != 0 {
		t.Errorf("with a link it says %+v", s)
	}
	eventually(t, "the gauge has a number", func() bool { return lacksGauge(t, edge) == 0 })

	hub.close()
	edge.make(5)
	eventually(t, "the link is gone", func() bool { return edge.uplink.Status().State == StateConnecting })
	if s := edge.uplink.Status(); !s.Known || s.HubHas != 50 || s.Lacks != 5 {
		t.Errorf("after a link it says %+v", s)
	}
}
