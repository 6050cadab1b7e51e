package kapa

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
)

// receiver takes posts and keeps their bodies.
func receiver(tb testing.TB) (address string, got chan message) {
	got = make(chan message, 1000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			tb.Errorf("posted %q: %v", data, err)
		}
		tb.Logf("posted %s", data)
		got <- m
	}))
	tb.Cleanup(srv.Close)
	return srv.URL, got
}

func next(tb testing.TB, got chan message) message {
	tb.Helper()
	select {
	case m := <-got:
		return m
	case <-time.After(20 * time.Second):
		tb.Fatal("nothing was posted within 20s")
		panic("unreachable")
	}
}

var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// influxDo runs a statement, or writes lines.
func influxDo(tb testing.TB, base, path string, q url.Values, body string) {
	tb.Helper()
	resp, err := plain.Post(base+path+"?"+q.Encode(), "text/plain", strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	if resp.StatusCode > 299 || strings.Contains(string(data), `"error"`) {
		tb.Fatalf("%s %s: %d %s", path, q, resp.StatusCode, data)
	}
}

func startInflux(tb testing.TB) *testtools.Server {
	s := testtools.StartInfluxd(tb, testtools.InfluxDB18)
	influxDo(tb, s.Addr, "/query", url.Values{"q": {`CREATE DATABASE "statistics" WITH DURATION 8h REPLICATION 1 NAME "one_day"`}}, "")
	return s
}

var lineEscapes = strings.NewReplacer(`,`, `\,`, ` `, `\ `, `=`, `\=`)

func writePoint(tb testing.TB, influx, metric string, value float64, tags map[string]string) {
	tb.Helper()
	line := strings.NewReplacer(`,`, `\,`, ` `, `\ `).Replace(metric)
	if strings.HasPrefix(line, "#") {
		line = `\` + line
	}
	for k, v := range tags {
		line += "," + lineEscapes.Replace(k) + "=" + lineEscapes.Replace(v)
	}
	line += fmt.Sprintf(" %s=%v", lineEscapes.Replace(metric), value)
	influxDo(tb, influx, "/write", url.Values{"db": {database}, "rp": {rawPolicy}}, line)
}

func startAlerts(tb testing.TB, o Options) *Alerts {
	tb.Helper()
	if o.DB == nil {
		o.DB = newDB(tb)
	}
	if o.Instance == "" {
		o.Instance = "TEST"
	}
	o.Logger = testLog(tb)
	a, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	a.Start()
	tb.Cleanup(func() { stopAlerts(tb, a) })
	return a
}

func stopAlerts(tb testing.TB, a *Alerts) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		tb.Error(err)
	}
}

func waitState(tb testing.TB, a *Alerts, id string, want State) View {
	tb.Helper()
	var v View
	eventually(tb, fmt.Sprintf("alert %s is %s", id, want), func() bool {
		var err error
		if v, err = a.Get(id); err != nil {
			tb.Fatal(err)
		}
		if v.Status.State == Failed && want != Failed {
			tb.Fatalf("%+v", v.Status)
		}
		return v.Status.State == want
	})
	return v
}

func TestKapacitorPosts(t *testing.T) {
	influx := startInflux(t)
	kapacitord := testtools.StartKapacitord(t, influx.Addr, quiet)
	post, got := receiver(t)
	a := startAlerts(t, Options{Kapacitor: kapacitord.Addr})
	alert := Alert{Tags: map[string]string{"host": "web1"}, Metric: "cpu_used", Level: Warn, Threshold: 80, Post: post,
		Duration: 2 * second, Every: second}
	v, err := a.Create(alert)
	if err != nil {
		t.Fatal(err)
	}
	waitState(t, a, v.ID, Executing)
	writePoint(t, influx.Addr, "cpu_used", 90, map[string]string{"host": "web1"})
	writePoint(t, influx.Addr, "cpu_used", 1, map[string]string{"host": "web2"})
	m := next(t, got)
	if m.ID != "[web1] cpu_used" || m.Message != "[web1] cpu_used is WARNING value:90" || m.Level != "WARNING" || m.PreviousLevel != "OK" ||
		m.Details != m.Message || !m.Recoverable || m.Duration != 0 {
		t.Errorf("%+v", m)
	}
	if s := m.Data.Series[0]; s.Name != "cpu_used" || fmt.Sprint(s.Columns) != "[time mean_cpu_used value]" || s.Values[0][1] != 90.0 || s.Values[0][0] != m.Time.Format(time.RFC3339Nano) {
		t.Errorf("%+v", s)
	}
	// The window empties: no value, no change. Then it is over.
	time.Sleep(3 * time.Second) // the absence of a post has no event to wait for
	select {
	case m := <-got:
		t.Fatalf("an empty window was posted: %+v", m)
	default:
	}
	writePoint(t, influx.Addr, "cpu_used", 10, map[string]string{"host": "web1"})
	if m = next(t, got); m.Message != "[web1] cpu_used is OK value:10" || m.PreviousLevel != "WARNING" || m.Duration <= 0 {
		t.Errorf("%+v", m)
	}

	// An update keeps the id and takes hold of the running task.
	v.Alert.Operator, v.Alert.Threshold, v.Alert.Level = Less, 50, Crit
	if v, err = a.Update(v.Alert); err != nil {
		t.Fatal(err)
	}
	waitState(t, a, v.ID, Executing)
	eventually(t, "the update fires", func() bool {
		writePoint(t, influx.Addr, "cpu_used", 20, map[string]string{"host": "web1"})
		select {
		case m = <-got:
			return true
		case <-time.After(500 * time.Millisecond):
			return false
		}
	})
	if m.Level != "CRITICAL" || m.ID != "[web1] cpu_used" {
		t.Errorf("%+v", m)
	}
	if err := a.Delete(v.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the task is gone", func() bool { return len(listTasks(t, kapacitord.Addr)) == 0 })
}

func listTasks(tb testing.TB, address string) map[string]task {
	tb.Helper()
	c, err := newClient(address)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.close()
	all, err := c.tasks(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// Whatever names and values an alert has, its task runs and finds the readings that have them.
func TestKapacitorHostileNames(t *testing.T) {
	influx := startInflux(t)
	kapacitord := testtools.StartKapacitord(t, influx.Addr, quiet)
	post, got := receiver(t)
	a := startAlerts(t, Options{Kapacitor: kapacitord.Addr})
	want := map[string]bool{}
	for i, name := range hostile() {
		if name == "time" || strings.HasSuffix(name, `\`) || strings.Contains(name, `\`) || strings.HasPrefix(name, "#") {
			continue // line protocol cannot say these; Options.Stored turns them into what it can
		}
		alert := Alert{Tags: map[string]string{"k" + name: name, "host": fmt.Sprint("h", i)}, Metric: name, Threshold: 80, Post: post + "/?" + url.QueryEscape(name),
			Duration: minute, Every: second}
		if _, err := a.Create(alert); err != nil {
			t.Fatal(err)
		}
		writePoint(t, influx.Addr, name, 90, alert.Tags)
		want[alert.Name()+" is CRITICAL value:90"] = true
	}
	for len(want) > 0 {
		m := next(t, got)
		if !want[m.Message] {
			t.Errorf("posted %q", m.Message)
		}
		delete(want, m.Message)
	}
}

// A Kapacitor that is not there, comes, is wiped: the alerts are pending and then run. What others made stays as it is.
func TestKapacitorAbsentAndWiped(t *testing.T) {
	kapacitord := testtools.StartKapacitord(t, startInflux(t).Addr, quiet)
	// Somebody else's, one with a name as near to ours as can be.
	c, err := newClient(kapacitord.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	others := []string{"cpu_alert", "pulse-TEST", "pulse-TEST2-abc", "pulse-test-abc", "xpulse-TEST-abc"}
	make1 := func(id string) {
		t.Helper()
		body := map[string]any{"id": id, "type": "stream", "status": "enabled", "dbrps": []dbrp{{"d", "r"}}, "script": "stream|from()"}
		if err := c.do(t.Context(), "create", http.MethodPost, "tasks", nil, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range others {
		make1(id)
	}
	make1("pulse-TEST-leftover") // of an alert that was deleted while Kapacitor was away
	kapacitord.Stop()

	a := startAlerts(t, Options{Kapacitor: kapacitord.Addr})
	alert := Alert{Metric: "cpu_used", Threshold: 80, Post: "http://127.0.0.1:1/"}
	var ids []string
	for range 3 {
		v, err := a.Create(alert)
		if err != nil || v.Status.State != Pending {
			t.Fatalf("%+v, %v", v, err)
		}
		ids = append(ids, v.ID)
	}
	eventually(t, "the reason is shown", func() bool {
		v, err := a.Get(ids[0])
		return err == nil && v.Status.State == Pending && strings.Contains(v.Status.Error, "does not answer")
	})
	if err := a.Delete(ids[2]); err != nil {
		t.Fatal(err)
	}
	kapacitord.Restart()
	for _, id := range ids[:2] {
		waitState(t, a, id, Executing)
	}
	check := func() {
		t.Helper()
		all := listTasks(t, kapacitord.Addr)
		for _, id := range others {
			if got, ok := all[id]; !ok || got.Status != "enabled" {
				t.Errorf("%s of somebody else: %+v", id, got)
			}
		}
		if len(all) != len(others)+2 {
			t.Errorf("tasks: %v", all)
		}
	}
	check()

	// Wiped, and what remained is disabled or changed.
	if err := c.deleteTask(t.Context(), "pulse-TEST-"+ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.patchTask(t.Context(), "pulse-TEST-"+ids[1], "disable", map[string]any{"status": "disabled"}); err != nil {
		t.Fatal(err)
	}
	if err := c.do(t.Context(), "delete template", http.MethodDelete, "templates/"+templateID(), nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	a.kapacitor.poke() // or half a minute later by itself
	eventually(t, "all is mended", func() bool {
		all := listTasks(t, kapacitord.Addr)
		return all["pulse-TEST-"+ids[0]].Executing && all["pulse-TEST-"+ids[1]].Executing
	})
	check()
}

// More tasks than a page of the list holds.
func TestKapacitorPages(t *testing.T) {
	kapacitord := testtools.StartKapacitord(t, startInflux(t).Addr, quiet)
	a, err := New(Options{DB: newDB(t), Instance: "TEST", Kapacitor: kapacitord.Addr, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	a.kapacitor.client.page = 4
	a.Start()
	defer stopAlerts(t, a)
	alert := Alert{Metric: "cpu_used", Threshold: 80, Post: "http://127.0.0.1:1/"}
	const n = 9
	for range n {
		if _, err := a.Create(alert); err != nil {
			t.Fatal(err)
		}
	}
	running := func() int {
		all, err := a.List()
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, v := range all {
			if v.Status.State == Executing {
				count++
			}
		}
		return count
	}
	eventually(t, "all of them run", func() bool { return running() == n })
	all, err := a.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all[1:] {
		if err := a.Delete(v.ID); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one is left", func() bool { return len(listTasks(t, kapacitord.Addr)) == 1 })
}

// quiet leaves out a line for every query.
var quiet = testtools.Setting{Section: "logging", Line: `level = "INFO"`}
