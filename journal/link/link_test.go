package link

import (
	"testing"
)

// Two edges whose relays have the same ids, and relays of the hub beside them: each event is at the
// hub once, in its edge's order, and says of which edge it is.
func TestLink(t *testing.T) {
	hub, ams, fra := newNode(t, "hub"), newNode(t, "ams1"), newNode(t, "fra1")
	ams.make(2500)
	hub.listen()
	hub.make(5)
	ams.connect(hub.addr)
	fra.connect(hub.addr)
	fra.level() // with nothing
	for range 20 {
		ams.make(7)
		fra.make(3)
		hub.make(1)
	}
	ams.level()
	fra.level()
	hub.same("ams1", texts(t, ams.content("")))
	hub.same("fra1", texts(t, fra.content("")))
	for i, r := range hub.content("fra1") {
		e := nameOf(&r)
		if e.Origin != uint64(i+1) || r.Event != nil && (r.Event.Edge != "fra1" || r.Event.Past) {
			t.Fatalf("record %d is %+v", i, r)
		}
	}
	if n := len(hub.content("")); n != 25 {
		t.Errorf("the hub has %d records of its own", n)
	}
	for _, n := range []*node{ams, fra} {
		e, s := hub.edge(n.name), n.uplink.Status()
		if e.State != StateConnected || e.Has != uint64(n.made) || e.Lacks != 0 || e.Events != uint64(n.made) || e.Release != "1.0" || len(e.Gaps)+len(e.Begun) > 0 {
			t.Errorf("the hub says %+v", e)
		}
		if s.HubHas != uint64(n.made) || s.HubRelease != "1.0" || s.Error != "" {
			t.Errorf("the edge says %+v", s)
		}
	}
}
