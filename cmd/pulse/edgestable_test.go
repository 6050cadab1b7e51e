package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/query"
)

// TestEdgesCommand checks the output for people, with edges without a link first.
func TestEdgesCommand(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 20, 30, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	answer := edgesAnswer{
		Edges: []link.Edge{
			{Name: "ams1", State: "connected", Since: ago(3 * time.Minute), Address: "10.0.0.8:40001", Release: "v0.9.0", Has: 812345, Last: 812350, Lacks: 5, ClockOffset: -0.04,
				Gaps: []link.Gap{{From: 100, To: 299, Events: 200, Reason: "dropped by retention", Time: ago(time.Hour)}}},
			{Name: "ber1", State: "silent", Since: ago(2 * time.Hour), Heard: ago(2 * time.Hour), Release: "v0.9.0", Has: 8000, Last: 8042, Lacks: 42,
				Begun:  []link.Begun{{At: 7001, Kept: 7100, Reason: "the edge was set back", Time: ago(24 * time.Hour)}},
				Notice: "another pulse calls itself ber1", Refused: &link.Refusal{Time: ago(time.Minute), Address: "10.0.0.9:1", Reason: "ber1 is connected already"}},
			{Name: "cph1", State: "never"},
			{Name: "old", State: "off", Since: ago(time.Hour), Has: 7},
		},
		Refused: []link.UnknownEdge{{Name: "gh\x1bost", Refusal: link.Refusal{Time: ago(30 * time.Second), Address: "10.0.0.66:5", Reason: "no edge has this name"}}},
	}
	const want = `EDGE  STATE      SINCE  HAS      LACKS       GAPS        CLOCK  RELEASE  ADDRESS
ber1  silent     2h     8,000    42 or more  -           -      v0.9.0   -
cph1  never      -      0        -           -           -      -        -
ams1  connected  3m     812,345  5           200 events  +0.0s  v0.9.0   10.0.0.8:40001
old   off        1h     7        0 or more   -           -      -        -

GAP OF  FROM  TO   EVENTS  FOUND                 REASON
ams1    100   299  200     2026-11-28 09:20:30Z  dropped by retention

BEGUN AGAIN  AT    KEPT UP TO  FOUND                 REASON
ber1         7001  7100        2026-11-27 10:20:30Z  the edge was set back

EDGE  NOTICE
ber1  another pulse calls itself ber1

REFUSED  AT                    FROM         REASON
ber1     2026-11-28 10:19:30Z  10.0.0.9:1   ber1 is connected already
gh ost   2026-11-28 10:20:00Z  10.0.0.66:5  no edge has this name
`
	var b strings.Builder
	if err := printEdges(&b, answer, now); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := printEdges(&b, edgesAnswer{}, now); err != nil || !strings.HasPrefix(b.String(), "no edges") {
		t.Errorf("%v %q", err, b.String())
	}
	if text := pulse(t, command.ExitFailure, "edges", "--api", "127.0.0.1:1"); !strings.Contains(text, "is a server running there?") {
		t.Errorf("without a server: %q", text)
	}
	if err := printEdges(fullDisk{}, answer, now); err == nil {
		t.Error("a full disk is not told")
	}
}

// TestStatusOfALink checks what pulse status says of an edge's link and of a hub's edges.
func TestStatusOfALink(t *testing.T) {
	at := time.Date(2026, 11, 28, 9, 20, 30, 0, time.UTC)
	for _, test := range []struct {
		status query.Status
		want   []string
	}{
		{query.Status{Uplink: &link.UplinkStatus{Edge: "ams1", Hub: "hub.example.org:7000", State: "connecting", Since: at, Known: true, HubHas: 8000, Last: 9000, Lacks: 1000, Error: "connection refused",
			Gaps: []link.Gap{{From: 1, To: 5, Events: 5, Reason: "dropped by retention", Time: at}}}}, []string{
			"hub       hub.example.org:7000 as ams1: not connected since 2026-11-28 09:20:30Z, it has the events up to number 8,000 and lacks those up to number 9,000, 5 events it will never get\n          connection refused\n",
			"GAP IN  FROM  TO  RECORDS  FOUND                 REASON\nhub     1     5   5        2026-11-28 09:20:30Z  dropped by retention\n",
		}},
		{query.Status{Uplink: &link.UplinkStatus{Edge: "ams1", Hub: "h:1", State: "connected", Known: true, HubHas: 8000, Last: 8000}}, []string{"hub       h:1 as ams1: connected, it has all events up to number 8,000\n"}},
		{query.Status{Uplink: &link.UplinkStatus{Edge: "ams1", Hub: "h:1", State: "connecting", Last: 2280}}, []string{"hub       h:1 as ams1: not connected, what it has is not known: there was no link since this start\n"}},
		{query.Status{Edges: &query.StatusEdges{Connected: 2, Silent: 1}}, []string{"edges     2 connected, 1 silent (pulse edges lists them)\n"}},
	} {
		var b strings.Builder
		if err := printStatus(&b, test.status); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("it lacks %q:\n%s", want, b.String())
			}
		}
	}
}
