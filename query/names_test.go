package query

import (
	"testing"

	"github.com/nanopack/pulse/projector/latest"
)

// /keys with filters has the stats of the series that match; without, it has all.
func TestKeysOfAHost(t *testing.T) {
	reading := func(host string) latest.Reading {
		return latest.Reading{Time: minutesAgo(600), Value: 1, Tags: []latest.Tag{{Key: "host", Value: host}}}
	}
	w := startWorld(t, nil)
	w.latest.readings = map[string][]latest.Reading{"cpu": {reading("web1"), reading("web2")}, "ram": {reading("web2")}, "odd": {reading("web3")}}
	w.latest.stats = []string{"ram", "cpu", "odd"}
	w.get(t, "/keys").want(t, 200, `["cpu","odd","ram"]`+"\n")
	w.get(t, "/keys?X-AUTH-TOKEN="+testToken).want(t, 200, `["cpu","odd","ram"]`+"\n")
	w.get(t, "/keys?host=web1").want(t, 200, `["cpu"]`+"\n")
	w.get(t, "/keys?host=web1&host=web2").want(t, 200, `["cpu","ram"]`+"\n")
	w.get(t, "/keys?host=nosuch").want(t, 200, "[]\n")
	w.relays.units = map[string]string{"cpu": "percent", "odd": "a<b", "unread": "bytes"}
	w.get(t, "/keys?detail=1").want(t, 200, `[{"stat":"cpu","unit":"percent"},{"stat":"odd","unit":"a<b"},{"stat":"ram"}]`+"\n")
	w.get(t, "/keys?detail=true&host=web2").want(t, 200, `[{"stat":"cpu","unit":"percent"},{"stat":"ram"}]`+"\n")
	w.get(t, "/keys?detail=1&host=nosuch").want(t, 200, "[]\n")
	w.get(t, "/keys?detail=0").want(t, 200, `["cpu","odd","ram"]`+"\n")
	for _, bad := range []string{"?detail", "?detail=x", "?detail=1&detail=1"} {
		w.get(t, "/keys"+bad).contains(t, 400, "detail must be 1 or 0")
	}
	w.get(t, "/keys?time=1").contains(t, 400, "cannot be a filter")
}
