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
	w.get(t, "/keys?time=1").contains(t, 400, "cannot be a filter")
}
