package ingest

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (w *world) wantUnits(want map[string]string) {
	w.t.Helper()
	settle()
	if got := w.srv.Units(); !maps.Equal(got, want) {
		w.t.Errorf("units %v, want %v", got, want)
	}
}

// TestUnits: lines add up, a new connection begins again, a restart changes nothing, and of what
// relays say most decide. Neither the journal nor the tags have any of it.
func TestUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu:service:web1")
		p.send("units cpu_used:percent,ram_free:byte", "units ram_free:bytes,net_in:bytes/s")
		w.wantUnits(map[string]string{"cpu_used": "percent", "ram_free": "bytes", "net_in": "bytes/s"})
		if got := names(w.relay("web1")); got != "cpu[service:web1]" {
			t.Errorf("collectors %s", got)
		}
		time.Sleep(time.Second) // the store has written by now
		w.stop()
		w.start()
		w.wantUnits(map[string]string{"cpu_used": "percent", "ram_free": "bytes", "net_in": "bytes/s"})

		p = w.connect("web1") // what it said holds until it says something
		w.wantUnits(map[string]string{"cpu_used": "percent", "ram_free": "bytes", "net_in": "bytes/s"})
		p.send("units cpu_used:percent")
		w.wantUnits(map[string]string{"cpu_used": "percent"})

		w.connect("web2").send("units cpu_used:share,load_1:processes")
		w.wantUnits(map[string]string{"cpu_used": "percent", "load_1": "processes"}) // a tie: the first by name
		w.connect("web3").send("units cpu_used:share")
		w.connect("an old relay")
		w.wantUnits(map[string]string{"cpu_used": "share", "load_1": "processes"})
		for _, line := range w.journal.text() {
			if strings.Contains(line, "percent") || strings.Contains(line, "units") {
				t.Errorf("the journal has %q", line)
			}
		}
		w.wantMetric(0, "requests_refused_total", "reason", deniedUnits)
		w.wantMetric(0, "commands_ignored_total")
	})
}

// TestUnitsRefused: a line that is refused changes nothing, and the relay goes on.
func TestUnitsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Limits.Series = 3 })
		p := w.connect("web1")
		p.send("units a:bytes,b:bytes")
		p.send("units c:bytes,d")
		p.want("error units: bad units: send units {stat}:{unit},{stat}:{unit}; a unit has 1 to 32 bytes")
		p.send("units c:bytes,d:bytes")
		p.want("error units: too many: a relay may have 3")
		w.wantUnits(map[string]string{"a": "bytes", "b": "bytes"})
		p.send("units c:bytes")
		p.add("cpu")
		w.wantUnits(map[string]string{"a": "bytes", "b": "bytes", "c": "bytes"})
		w.wantMetric(2, "requests_refused_total", "reason", deniedUnits)
	})
}

// TestUnitsAreShared: a fleet that says the same has one text.
func TestUnitsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for i := range 3 {
			w.connect(fmt.Sprint("web", i)).send("units b:bytes,a:percent")
		}
		settle()
		if a, b := w.srv.registry.get("web0"), w.srv.registry.get("web2"); a.unitsText() != b.unitsText() || a.unitsText() == noUnits {
			t.Errorf("%q and %q", a.unitsText().Value(), b.unitsText().Value())
		}
	})
}
