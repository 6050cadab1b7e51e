package relay_test

import (
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// unitOf is a unit for some stats, one that cannot be sent for bad, and none for others.
func unitOf(stat string) string {
	if stat == "other" {
		panic("no unit")
	}
	return map[string]string{"cpu_used": "percent", "free": "bytes", "total": "bytes", "bad": "a,b"}[stat]
}

// TestUnits: a server that takes units hears the unit of each stat once a connection, before the
// first reading of the stat. Other servers hear none.
func TestUnits(t *testing.T) {
	s, _ := listen(t, "")
	r, err := relay.New(relay.Options{Address: s.addr, ID: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stats := map[string]float64{"free": 1, "bad": 2, "other": 3}
	grow := make(chan string, 1)
	ram := relay.NewSetCollector(func() map[string]float64 {
		select {
		case stat := <-grow:
			stats[stat] = 4
		default:
		}
		all := map[string]float64{}
		for stat, v := range stats {
			all[stat] = v
		}
		return all
	})
	cpu := relay.NewPointCollector(func() float64 { return 5 })
	for name, c := range map[string]relay.Collector{
		"cpu_used": relay.WithUnits(relay.Sample(cpu, time.Hour, relay.Mean()), unitOf),
		"ram":      relay.WithUnits(ram, unitOf),
	} {
		if err := r.AddCollector(name, nil, c); err != nil {
			t.Fatal(err)
		}
	}

	p := s.accept()
	p.say("takes past,units,others")
	p.expect("add cpu_used:")
	p.expect("add ram:")
	p.say("get cpu_used")
	p.expect("units cpu_used:percent")
	p.expect("got cpu_used-cpu_used:5")
	p.say("get ram")
	p.expect("units free:bytes")
	p.expect("got ram-bad:2,ram-free:1,ram-other:3")
	grow <- "total"
	p.say("get ram,cpu_used")
	p.expect("units total:bytes")
	p.expect("got ram-bad:2,ram-free:1,ram-other:3,ram-total:4,cpu_used-cpu_used:5")
	p.conn.Close()

	p = s.accept() // a released server: nothing but adds and answers
	p.expect("add cpu_used:")
	p.expect("add ram:")
	p.say("get cpu_used")
	p.expect("got cpu_used-cpu_used:5")
	p.conn.Close()

	p = s.accept()
	p.expect("add cpu_used:")
	p.expect("add ram:")
	r.RemoveCollector("cpu_used")
	p.expect("remove cpu_used")
	p.say("takes units")
	p.expect("units free:bytes,total:bytes")
	sampled := relay.Sample(relay.WithUnits(cpu, unitOf), time.Hour, relay.Mean())
	if err := r.AddCollector("cpu_used", nil, sampled); err != nil {
		t.Fatal(err)
	}
	p.expect("add cpu_used:")
	p.say("get cpu_used")
	p.expect("units cpu_used:percent")
	p.expect("got cpu_used-cpu_used:5")
}
