package kapa

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
)

// startInflux starts an InfluxDB with the database that the tasks read from.
func startInflux(tb testing.TB) *testtools.Server {
	tb.Helper()
	s := testtools.StartInfluxd(tb, testtools.InfluxDB18)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.PostForm(s.Addr+"/query", url.Values{"q": {`CREATE DATABASE "statistics" WITH DURATION 8h REPLICATION 1 NAME "one_day"`}})
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(data), `"error"`) {
		tb.Fatalf("%d %s %v", resp.StatusCode, data, err)
	}
	return s
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

// Kapacitor is absent, comes up, and is wiped. The alerts are pending first, and run when Kapacitor
// is there. Tasks of other programs stay unchanged.
func TestKapacitorAbsentAndWiped(t *testing.T) {
	kapacitord := testtools.StartKapacitord(t, startInflux(t).Addr, quiet)
	// The task of another program has a name that is as similar to Pulse's as possible.
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

	// One task is deleted, and the other ones are disabled or changed.
	if err := c.deleteTask(t.Context(), "pulse-TEST-"+ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.patchTask(t.Context(), "pulse-TEST-"+ids[1], "disable", map[string]any{"status": "disabled"}); err != nil {
		t.Fatal(err)
	}
	if err := c.do(t.Context(), "delete template", http.MethodDelete, "templates/"+templateID(), nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	theKapacitor(a).poke() // or the next pass does it after half a minute
	eventually(t, "all is mended", func() bool {
		all := listTasks(t, kapacitord.Addr)
		return all["pulse-TEST-"+ids[0]].Executing && all["pulse-TEST-"+ids[1]].Executing
	})
	check()
}

// There are more tasks than a page of the list holds.
func TestKapacitorPages(t *testing.T) {
	kapacitord := testtools.StartKapacitord(t, startInflux(t).Addr, quiet)
	a, err := New(Options{DB: newDB(t), Instance: "TEST", Kapacitor: kapacitord.Addr, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	theKapacitor(a).client.page = 4
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

// quiet sets a log level without a line for every query.
var quiet = testtools.Setting{Section: "logging", Line: `level = "INFO"`}
