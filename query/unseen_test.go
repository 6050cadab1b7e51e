package query

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector/latest"
)

// An alert on a metric or tag that no reading has is accepted. Every answer that shows the alert
// says so, and names what was probably meant.
func TestAlertOnTheUnseen(t *testing.T) {
	w := startWorld(t, nil)
	reading := func(host string) latest.Reading {
		return latest.Reading{Time: time.Now().UnixNano(), Tags: []latest.Tag{{Key: "host", Value: host}, {Key: "service", Value: "shop"}}}
	}
	w.latest.stats = []string{"cpu_used", "ram_used"}
	w.latest.tagKeys = []string{"host", "service"}
	w.latest.readings = map[string][]latest.Reading{"cpu_used": {reading("web1"), reading("db-main")}}
	w.relays.relays = []ingest.Relay{{ID: "silent-relay"}}
	down := false
	w.influx.query = func(_ context.Context, statement string, params map[string]any) ([]models.Row, error) {
		names := func(all ...string) (rows []models.Row, err error) {
			row := models.Row{}
			for _, name := range all {
				row.Values = append(row.Values, []any{name})
			}
			return []models.Row{row}, nil
		}
		switch {
		case down:
			return nil, errors.New("away")
		case strings.HasPrefix(statement, "SHOW FIELD KEYS"):
			return names("old_stat", "old_stat:count")
		case strings.HasPrefix(statement, "SHOW TAG KEYS"):
			return names("host", "rack")
		case strings.Contains(statement, `WITH KEY = "host" WHERE "host" = $value`) && params["value"] == "gone-host":
			return names("host")
		}
		return nil, nil
	}
	var view kapa.View
	put := func(a kapa.Alert) (kapa.View, error) { view = kapa.View{Alert: a}; return view, nil }
	w.alerts.create, w.alerts.update = put, put
	w.alerts.get = func(string) (kapa.View, error) { return view, nil }
	w.alerts.list = func() ([]kapa.View, error) { return []kapa.View{view, view}, nil }
	for _, tt := range []struct{ fields, warning string }{
		{`"metric":"cpu_used"`, ""},
		{`"metric":"old_stat"`, ""},
		{`"metric":"cpu_used","tags":{"host":"web1","service":"shop"},"by":["rack","service"]`, ""},
		{`"metric":"cpu_used","tags":{"host":"silent-relay"}`, ""},
		{`"metric":"cpu_used","tags":{"host":"gone-host"}`, ""},
		{`"metric":"cpu_usd"`, `no reading of \"cpu_usd\" is known: did you mean \"cpu_used\"?`},
		{`"metric":"old_stats"`, `no reading of \"old_stats\" is known: did you mean \"old_stat\"?`},
		{`"metric":"count"`, `no reading of \"count\" is known`},
		{`"metric":"cpu_used","tags":{"host":"web11"}`, `no reading of \"cpu_used\" is known that has the tag \"host:web11\": did you mean \"web1\"?`},
		{`"metric":"cpu_used","tags":{"hots":"web1"}`, `no reading is known that has the tag \"hots\": did you mean \"host\"?`},
		{`"metric":"cpu_used","by":["rak"]`, `no reading is known that has the tag \"rak\": did you mean \"rack\"?`},
		{`"metric":"cpu_usd","tags":{"host":"nobody"},"by":["zzz"]`, `no reading of \"cpu_usd\" is known: did you mean \"cpu_used\"?; no reading is known that has the tag \"zzz\"`},
	} {
		body := `{` + tt.fields + `,"threshold":1,"post":"http://127.0.0.1/"}`
		for _, down = range []bool{false, true} {
			for _, a := range []answer{w.do(t, "POST", "/alerts", body), w.do(t, "PUT", "/alerts", body), w.get(t, "/alerts/x"), w.get(t, "/alerts")} {
				want := ""
				if tt.warning != "" && !down {
					want = `,"warning":"` + tt.warning + `"}`
				}
				if a.status != 200 || want != "" && !strings.Contains(a.body, want) || want == "" && strings.Contains(a.body, "warning") {
					t.Errorf("%s, down %v: %d %s\nwant %s", tt.fields, down, a.status, a.body, want)
				}
			}
		}
	}
}
