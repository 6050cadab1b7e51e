package query

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Pulse 0.2 queried only the means of the windows, for exactly the given time. For /daily it
// grouped them by quarter hours, whatever the length of the windows.
func TestHistory02(t *testing.T) {
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	w := startWorld(t, func(o *Options) {
		o.Compat, o.AggregateInterval, o.Location = Compat02, time.Hour, kolkata
	})
	db := &database{}
	w.influx.query = db.query
	host := map[string]string{"host": "a"}
	hour := testNow.Truncate(time.Hour) // 15:30 in Kolkata
	db.addWindow(hour.Add(-24*time.Hour), host, "cpu", 10, 10, 10)
	db.addOld(hour.Add(-48*time.Hour), host, "cpu", 70)
	db.addWindow(hour, host, "cpu", 1, 3)
	w.get(t, "/daily/cpu").want(t, 200, `[{"time":"15:30","value":27.333333333333332}]`+"\n") // (70 + 10 + 2) / 3
	w.get(t, "/daily/cpu?verb=count").want(t, 200, `[{"time":"15:30","value":1}]`+"\n")
	if got := getJSON[[]dailyStat](t, w, "/daily/cpu?backfill=x"); len(got) != 96 || got[62] != (dailyStat{"15:30", 27.333333333333332}) || got[63] != (dailyStat{"15:45", 0}) {
		t.Errorf("%d slots: %v", len(got), got)
	}
	w.influx.statements()
	// The window of 10:00 began more than 10 minutes ago.
	w.get(t, "/hourly/cpu?start=10m").want(t, 404, `{"error":"Not Found"}`+"\n")
	w.get(t, "/hourly/cpu?start=1d&stop=1h&verb=MAX&verb=nonsense").want(t, 404, `{"error":"Not Found"}`+"\n")
	w.get(t, "/hourly/cpu?start=25h&stop=1h&verb=MAX").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":10}]`+"\n", hour.Add(-24*time.Hour).UnixMilli()))
	asked := w.influx.statements()
	want := []string{
		fmt.Sprintf(`mean("cpu") AS "c0" FROM "statistics"."one_week"."aggregate" WHERE time >= %d AND time < %d `, testNow.Add(-10*time.Minute).UnixNano()+1, testNow.UnixNano()),
		`max("cpu") AS`, `max("cpu") AS`,
	}
	if len(asked) != len(want) {
		t.Fatalf("asked %v", asked)
	}
	for i := range want {
		if !strings.Contains(asked[i].text, want[i]) {
			t.Errorf("asked %s, want %s", asked[i].text, want[i])
		}
	}
}

// Pulse 0.2 encoded JSON with Go's default, which escapes characters that are special in HTML.
func TestEscapes02(t *testing.T) {
	for compat, want := range map[string]string{Compat02: `"?a=1\u0026b=2"` + "\n", "": `"?a=1&b=2"` + "\n"} {
		answer := httptest.NewRecorder()
		startWorld(t, func(o *Options) { o.Compat = compat }).writeJSON(answer, http.StatusOK, "?a=1&b=2")
		if got := answer.Body.String(); got != want {
			t.Errorf("compat %q: %s, want %s", compat, got, want)
		}
	}
}
