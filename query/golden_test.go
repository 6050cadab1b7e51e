package query

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/past"
)

var update = flag.Bool("update", false, "write the answers of the golden cases anew")

// TestGolden runs every folder of testdata/golden. request.txt holds the method and path, then
// options ("compat: 0.2", "location: Europe/Berlin"), then an empty line and the body. answer.txt
// holds the status, the content type and the body. All cases ask the same world, goldenWorld.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, "request.txt"))
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(b), "\n\n")
			lines := strings.Split(strings.TrimSpace(head), "\n")
			method, path, _ := strings.Cut(lines[0], " ")
			opts := map[string]string{}
			for _, line := range lines[1:] {
				name, value, ok := strings.Cut(line, ": ")
				if !ok {
					t.Fatalf("not an option: %q", line)
				}
				opts[name] = value
			}
			w := goldenWorld(t, opts)
			a := w.do(t, method, path, body)
			got := fmt.Sprintf("%d %s\n%s", a.status, a.header.Get("Content-Type"), a.body)
			file := filepath.Join(dir, "answer.txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Fatalf("%s %s\ngot  %s\nwant %s", method, path, got, want)
			}
		})
	}
}

// goldenWorld has three hosts with readings and aggregates, and it has relays, projections,
// rejects, alerts and an override.
func goldenWorld(t *testing.T, opts map[string]string) *world {
	t.Helper()
	w := startWorld(t, func(o *Options) {
		o.Compat = opts["compat"]
		if opts["alerts"] == "absent" {
			o.Alerts = nil
		}
		if opts["hub"] != "" {
			o.Edges = goldenEdges(opts["hub"])
		}
		if opts["uplink"] != "" {
			o.Uplink = goldenUplink(opts["uplink"])
		}
		if opts["live"] == "absent" {
			o.Live = nil
		}
		if opts["replays"] == "absent" {
			o.Replays = nil
		}
		if name := opts["location"]; name != "" {
			loc, err := time.LoadLocation(name)
			if err != nil {
				t.Fatal(err)
			}
			o.Location = loc
		}
		if v := opts["interval"]; v != "" {
			d, err := time.ParseDuration(v)
			if err != nil {
				t.Fatal(err)
			}
			o.AggregateInterval = d
		}
	})
	w.alerts.try = func(_ context.Context, q kapa.TrialRequest) (kapa.Trial, error) {
		if opts["alerts"] == "broken" {
			return kapa.Trial{}, errors.New("reading /var/lib/pulse: input/output error")
		}
		value, at := 91.5, q.From.Add(time.Hour).UTC()
		return kapa.Trial{Alert: q.Alert, From: q.From, To: q.To, JournalFrom: q.From.Add(-time.Hour), Reached: q.To.Add(-30 * time.Second).UTC(),
			Events: 100, Readings: 1000, Matched: 50, Groups: 2, Firing: 1, Lost: 3, Gaps: []kapa.TrialGap{{From: 7, To: 9, Count: 3, Reason: "missing from the journal", After: at}},
			Posts: []kapa.TrialPost{
				{Time: at, Name: "[web1] cpu_used", Tags: map[string]string{"host": "web1"}, Level: "CRITICAL", PreviousLevel: "OK", Value: &value, Message: "[web1] cpu_used is CRITICAL value:91.5"},
				{Time: at.Add(time.Minute), Name: "[web2] cpu_used", Tags: map[string]string{"host": "web2"}, Level: "CRITICAL", PreviousLevel: "OK", Silent: []string{"web2"}, Message: "[web2] cpu_used is CRITICAL value:none for 10m from web2"},
			}}, nil
	}
	w.alerts.list = func() ([]kapa.View, error) { return nil, nil }
	if opts["empty"] != "" {
		return w
	}
	tags := func(host, service string) []latest.Tag {
		return []latest.Tag{{Key: "host", Value: host}, {Key: "service", Value: service}}
	}
	ns := func(back time.Duration) int64 { return testNow.Add(-back).UnixNano() }
	w.latest.stats = []string{"load_1", "cpu_used"}
	w.latest.tagKeys = []string{"service", "host"}
	w.latest.readings = map[string][]latest.Reading{
		"cpu_used": {
			{Time: ns(10 * time.Second), Value: 40, Tags: tags("web2", "web")},
			{Time: ns(30 * time.Second), Value: 20, Tags: tags("web1", "web")},
			{Time: ns(90 * time.Second), Value: 90, Tags: tags("db1", "db")},
			{Time: ns(121 * time.Second), Value: 1000, Tags: tags("gone", "web")}, // too old
		},
		"load_1": {{Time: ns(time.Second), Value: 0.25, Tags: tags("web1", "web")}},
	}

	db := &database{}
	web1, web2 := map[string]string{"host": "web1", "service": "web"}, map[string]string{"host": "web2", "service": "web"}
	hour := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	db.addWindow(hour.Add(-24*time.Hour), web1, "cpu_used", 10, 20)
	db.addWindow(hour, web1, "cpu_used", 1, 2, 3)
	db.addWindow(hour, web2, "cpu_used", 8)
	db.addWindow(hour.Add(15*time.Minute), web1, "cpu_used", 4)
	db.addWindow(hour.Add(120*time.Minute), web1, "cpu_used", 7, 9)
	// The day before yesterday Pulse 0.2 was still running.
	db.addOld(hour.Add(-47*time.Hour), web1, "cpu_used", 5)
	db.addOld(hour.Add(-48*time.Hour), web1, "cpu_used", 10)
	db.addOld(hour.Add(-48*time.Hour), web2, "cpu_used", 20)
	for i, v := range []float64{8, 9, 7, 10, 6} { // of the last minutes
		db.addReading(testNow.Add(time.Duration(i-5)*time.Minute).UnixNano(), web1, "cpu_used", v)
	}
	db.addReading(testNow.Add(-2*time.Minute).UnixNano(), web2, "cpu_used", 0.25)
	w.influx.query = db.query

	w.journal.state = journal.State{FirstSeq: 11, LastSeq: 1010, FirstTime: testNow.Add(-time.Hour), LastTime: testNow,
		Messages: 1000, Bytes: 100_000, MaxBytes: 1_000_000, Retention: 7 * 24 * time.Hour,
		Reach: journal.Reach{Seconds: 36000, Limit: journal.LimitMaxBytes, BytesPerSecond: 28}}
	toLoss := 35640.0
	w.proj.list = []projector.Status{
		{Name: "latest", Position: 1010, Applied: 1010, State: "running", Losses: projector.Losses{Gaps: []projector.Gap{}}},
		{Name: "influx_raw", Position: 900, Applied: 910, Lag: 100, LagSeconds: 360, State: "retrying", Failing: true,
			LastError: "connection refused", Backlog: 40, SecondsToLoss: &toLoss, Losses: projector.Losses{Lost: 7,
				Gaps: []projector.Gap{{From: 100, To: 106, Count: 7, Reason: "dropped by retention", Time: testNow.Add(-time.Hour)}}}},
	}
	w.rejects.list = []projector.Reject{
		{Projection: "influx_raw", Seq: 17, Count: 3, Reason: "points beyond retention policy", Time: testNow.Add(-time.Hour)},
		{Projection: "influx_aggregates", Seq: 900, Relay: "web1", Stat: "cpu_used", Reason: "field type conflict <float>",
			Time: testNow.In(time.FixedZone("", 7200))},
		{Projection: "influx_raw", Seq: 901, Relay: "web2", Stat: "load_1", Count: 1, Reason: "field type conflict", Time: testNow},
	}
	if opts["tickets"] == "all taken" {
		for range maxTickets {
			if _, _, err := w.tickets.issue(testNow); err != nil {
				t.Fatal(err)
			}
		}
	}
	if opts["journal"] == "full" {
		w.journal.healthy = errors.New("no space left on device")
	}
	if opts["influx"] == "down" {
		w.influx.query = errorQuery(errors.New("dial tcp 127.0.0.1:8086: connect: connection refused"))
		w.influx.ping = errorPing(errors.New("connection refused"))
	}
	*w.control, *w.relays = goldenControl()
	goldenAlerts(w.alerts, opts["alerts"])
	goldenReplays(w.replays, opts["replays"])
	return w
}

// goldenControl has the relays web1, which is connected, and web2, and the override o1.
func goldenControl() (control fakeControl, relays fakeRelays) {
	relays.relays = []ingest.Relay{
		{ID: "web1", Connected: true, RemoteAddr: "10.0.0.7:41234", ConnectedAt: testNow.Add(-time.Minute),
			LastSeen: testNow, RelayCounts: ingest.RelayCounts{Polls: 3, Skipped: 1, Rejected: 2, Replaced: 4, ReplacedAddr: "10.0.0.8:5123"}, Collectors: []ingest.Collector{
				{Name: "cpu", Tags: []string{"service:web", "rack7"}, Interval: apijson.Seconds(5 * time.Second)}, {Name: "ram", Tags: []string{}, Interval: apijson.Seconds(time.Minute)}}},
		{ID: "web2", Collectors: []ingest.Collector{}, LastSeen: testNow.Add(-time.Hour)},
	}
	made := ingest.Override{ID: "o1", Created: testNow.Add(-10 * time.Second), Until: testNow.Add(50 * time.Second), Remaining: 50 * time.Second,
		Collectors: map[string]time.Duration{"cpu": 5 * time.Second}, Relays: []string{"web2", "web1"}}
	control.overrides = []ingest.Override{made}
	control.override = func(r ingest.OverrideRequest) (ingest.Override, error) {
		if r.Collectors["nosuch"] != 0 {
			return ingest.Override{}, fmt.Errorf("%w: no connected relay has a collector nosuch", ingest.ErrInvalid)
		}
		return ingest.Override{ID: "o2", Created: testNow, Until: testNow.Add(r.Duration), Remaining: r.Duration, Collectors: r.Collectors,
			Relays: append([]string{"web1"}, r.Relays...)}, nil
	}
	control.cancel = func(id string) error {
		if id != "o1" {
			return fmt.Errorf("%w: no override %s: GET /overrides lists them", ingest.ErrNotFound, id)
		}
		return nil
	}
	control.forget = func(id string) error {
		switch id {
		case "web/1 50%":
			return nil
		case "web1":
			return fmt.Errorf("the relay is %w from 10.0.0.7:41234: stop it first, or it would be back at once", ingest.ErrConnected)
		}
		return fmt.Errorf("%w: no relay has this id; did you mean %q?", ingest.ErrNotFound, "web1")
	}
	control.flush = func(relays []string) int {
		if len(relays) == 0 {
			return 2
		}
		return len(relays)
	}
	return control, relays
}

// goldenAlerts has the alert a1, which fires, and a2, which Kapacitor refuses. state may be full or
// broken.
func goldenAlerts(f *fakeAlerts, state string) {
	since := testNow.Truncate(time.Second).Add(-time.Minute)
	quiet := kapa.Number(70)
	a1 := kapa.View{
		Alert: kapa.Alert{ID: "a1", Tags: map[string]string{"host": "web1"}, Metric: "cpu_used", Level: kapa.Crit, Operator: kapa.Greater,
			Threshold: 80, Duration: kapa.Duration(30 * time.Second), Post: "http://127.0.0.1/alert?a=1&b=2", Every: kapa.Duration(30 * time.Second),
			Recover: &quiet, Deadman: kapa.Duration(10 * time.Minute)},
		Status: kapa.Status{State: kapa.Executing, Level: "CRITICAL", Since: &since, Undelivered: 1, LastDelivery: &since,
			DeliveryError: "connection refused"},
	}
	a2 := kapa.View{
		Alert: kapa.Alert{ID: "a2", Tags: map[string]string{}, Metric: "load_1", Level: kapa.Warn, Operator: kapa.LessOrEqual,
			Threshold: 0.5, Duration: kapa.Duration(5 * time.Minute), Post: "https://example.com/", Every: kapa.Duration(time.Minute)},
		Status: kapa.Status{State: kapa.Failed, Error: "kapacitor: 400 Bad Request"},
	}
	broken := errors.New("writing the state file: no space left on device")
	pending := kapa.Status{State: kapa.Pending}
	f.list = func() ([]kapa.View, error) {
		if state == "broken" {
			return nil, broken
		}
		return []kapa.View{a1, a2}, nil
	}
	f.create = func(a kapa.Alert) (kapa.View, error) {
		switch {
		case state == "full":
			return kapa.View{}, kapa.ErrTooMany
		case state == "broken":
			return kapa.View{}, broken
		case a.ID != "":
			return kapa.View{}, &kapa.FieldError{Field: "id", Want: "left out"}
		}
		a.ID = "a3"
		return kapa.View{Alert: a, Status: pending}, nil
	}
	f.update = func(a kapa.Alert) (kapa.View, error) {
		switch {
		case state == "broken":
			return kapa.View{}, broken
		case a.ID == "":
			return kapa.View{}, &kapa.FieldError{Field: "id", Want: "that of the alert to change"}
		case a.ID != "a1" && a.ID != "a2":
			return kapa.View{}, kapa.ErrNotFound
		}
		return kapa.View{Alert: a, Status: pending}, nil
	}
	f.get = func(id string) (kapa.View, error) {
		switch {
		case state == "broken":
			return kapa.View{}, broken
		case id == "a1":
			return a1, nil
		case id == "a2":
			return a2, nil
		}
		return kapa.View{}, kapa.ErrNotFound
	}
	f.remove = func(id string) error {
		_, err := f.get(id)
		return err
	}
}

// goldenReplays has replay 2, which is running, and replay 1, which is done. state may be full or
// broken.
func goldenReplays(f *fakeReplays, state string) {
	left := 12.5
	now := testNow.Truncate(time.Second) // as past tells its times
	since := testNow.Add(-time.Hour)
	running := past.Job{ID: "2", Projections: []string{"raw", "aggregates"}, From: testNow.Add(-6 * time.Hour), To: testNow.Add(-time.Hour),
		State: past.StateRunning, Created: now.Add(-time.Minute), Started: now.Add(-50 * time.Second), Progress: 0.42, SecondsLeft: &left,
		LastError: "connection refused",
		Parts: []past.Part{
			{Projection: "raw", State: past.StateDone, Counts: past.Counts{Events: 456, Readings: 1230, Points: 1225, Expired: 3, Refused: 2, Lost: 10}, EventsTotal: 456,
				Notes: []string{"the journal begins at 2026-11-23T05:00:00Z; what was before is not in it"}},
			{Projection: "aggregates", State: past.StateRunning, Counts: past.Counts{Events: 1}, EventsTotal: 456},
		}}
	done := past.Job{ID: "1", Projections: []string{"raw"}, From: since, To: testNow, DryRun: true, State: past.StateDone, Parts: []past.Part{},
		Created: now.Add(-time.Hour), Started: now.Add(-time.Hour), Finished: now, Progress: 1}
	f.list = []past.Job{running, done}
	f.create = func(r past.Request) (past.Job, error) {
		if err := r.Validate(testNow); err != nil {
			return past.Job{}, err
		}
		switch {
		case state == "full":
			return past.Job{}, fmt.Errorf("%w: 16; cancel one or wait", past.ErrTooMany)
		case state == "broken":
			return past.Job{}, errors.New("writing the state file: no space left on device")
		case len(r.Projections) == 0:
			return past.Job{}, fmt.Errorf("%w: projection is missing; it may be raw, aggregates or all", past.ErrInvalid)
		case r.To.IsZero():
			r.To = testNow
		}
		return past.Job{ID: "3", Projections: r.Projections, From: r.From, To: r.To, Edge: r.Edge, DryRun: r.DryRun, State: past.StateWaiting, Created: now,
			Parts: []past.Part{{Projection: "raw", State: past.StateWaiting}}}, nil
	}
	f.get = func(id string) (past.Job, error) {
		if id != "2" {
			return past.Job{}, fmt.Errorf("%w: %s", past.ErrNotFound, id)
		}
		return running, nil
	}
	f.cancel = func(id string) (past.Job, error) {
		r, err := f.get(id)
		r.State, r.Finished = past.StateCanceled, now
		return r, err
	}
}

// The golden cases reach every route.
func TestGoldenReachesEveryRoute(t *testing.T) {
	w := newWorld(t, nil)
	files, err := filepath.Glob("testdata/golden/*/request.txt")
	if err != nil {
		t.Fatal(err)
	}
	reached := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		method, target, _ := strings.Cut(line, " ")
		path, _, _ := strings.Cut(target, "?")
		for _, rt := range w.routes() {
			if rt.method == method && samePath(rt.path, path) {
				reached[rt.method+" "+rt.path] = true
			}
		}
	}
	for _, rt := range w.routes() {
		if rt.method != http.MethodHead && !reached[rt.method+" "+rt.path] {
			t.Errorf("no golden case for %s %s", rt.method, rt.path)
		}
	}
}

func samePath(pattern, path string) bool {
	a, b := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") {
			return false
		}
	}
	return true
}
