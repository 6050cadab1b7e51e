package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/kapa"
)

// TestAlertTestOfARealServer compares what a live alert posted to its receiver with what a test of
// the same alert over the journal says, by the API and by the command.
func TestAlertTestOfARealServer(t *testing.T) {
	t.Parallel()
	receiver := startReceiver(t)
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "3600", "-l", "WARN", "--read-token", "a token that reads")
	relay, err := connectSteady(t, s.RelayAddr, "web1", "")
	if err != nil {
		t.Fatal(err)
	}
	watched := map[string]any{"metric": "load", "threshold": 80, "duration": "1s", "every": "1s", "by": []string{"host"}}
	made := map[string]any{"post": receiver.url("live")}
	for k, v := range watched {
		made[k] = v
	}
	var live []string
	if err := callAPI(s, "POST", "/alerts", made, nil); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"90", "10", "95"} {
		relay.say("got c0-load:" + value)
		body, err := receiver.next("live")
		if err != nil {
			t.Fatal(err)
		}
		var post struct{ Message string }
		if err := json.Unmarshal([]byte(body), &post); err != nil {
			t.Fatal(err)
		}
		live = append(live, post.Message)
	}
	watched["from"] = "1h"
	var trial kapa.Trial
	if err := callAPI(s, "POST", "/alerts/test", watched, &trial); err != nil {
		t.Fatal(err)
	}
	var tried []string
	for _, p := range trial.Posts {
		tried = append(tried, p.Message)
	}
	if !reflect.DeepEqual(tried, live) || trial.Matched == 0 || trial.Stopped != "" || trial.JournalFrom.IsZero() || trial.Firing != 1 {
		t.Errorf("tried %q, posted %q, %+v", tried, live, trial)
	}
	code, stdout, stderr := runCommand("alert", "test", "--api", s.HTTPAddr, "--token", "a token that reads", "--metric", "load", "--threshold", "80",
		"--duration", "1s", "--every", "1s", "--by", "host", "--from", "1h")
	if code != command.ExitOK || stderr != "" || !strings.Contains(stdout, live[2]) || !strings.Contains(stdout, ": 3 posts\n") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if got := receiver.rest("live"); len(got) > 0 {
		t.Errorf("posted was also %q", got)
	}
	if code, stdout, _ := runCommand("alert", "--api", s.HTTPAddr); code != command.ExitOK || !strings.Contains(stdout, "1 of 1  [*] load  mean of 1s > 80") {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

// The flags of pulse alert test become the body of a request, and its answer a text for people.
func TestAlertTestCommand(t *testing.T) {
	t.Setenv("TZ", "Europe/Berlin")
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	recovered := kapa.Number(60)
	answer := kapa.Trial{Alert: kapa.Alert{Metric: "cpu_used", Operator: kapa.GreaterOrEqual, Threshold: 80.5, Duration: kapa.Duration(5 * time.Minute), Every: kapa.Duration(30 * time.Second), Recover: &recovered,
		Deadman: kapa.Duration(10 * time.Minute), By: []string{"host"}, Tags: map[string]string{"service": "web"}}, From: at, To: at.Add(48 * time.Hour), Reached: at.Add(3 * time.Hour),
		Stopped: "it took longer than 30s", Events: 1234567, Readings: 12345670, Matched: 1000, Groups: 3, Firing: 1, Lost: 1500, Notes: []string{"a note"},
		Posts: []kapa.TrialPost{{Time: at.Add(time.Hour), Message: "[web1] cpu_used is CRITICAL value:91.5"}, {Time: at.Add(2 * time.Hour), Message: "[web1] cpu_used is OK value:3"}}}
	var asked string
	status := http.StatusOK
	s := serveAPI(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked = r.Method + " " + r.URL.Path + " " + string(body)
		w.WriteHeader(status)
		if status != http.StatusOK {
			_, _ = io.WriteString(w, `{"error":"this is why"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	args := []string{"alert", "test", "--api", s.URL, "--metric", "cpu_used", "--threshold", "80.5", "--from", "2026-11-23"}
	const want = `[*] cpu_used, mean of 5m >= 80.5, or none for 10m, from 2026-11-23T10:00:00+01:00 to 2026-11-25T10:00:00+01:00: 2 posts
2026-11-23T11:00:00+01:00  [web1] cpu_used is CRITICAL value:91.5
2026-11-23T12:00:00+01:00  [web1] cpu_used is OK value:3
it ended at 2026-11-23T13:00:00+01:00, because it took longer than 30s; --from 2026-11-23T13:00:00+01:00 goes on from there
read: 1,234,567 events with 12,345,670 readings, of which 1,000 count; at the end 1 of 3 fire
1,500 events are missing from the journal
a note
`
	code, stdout, stderr := runCommand(args...)
	if code != command.ExitOK || stderr != "" || stdout != want || asked != `POST /alerts/test {"metric":"cpu_used","threshold":"80.5","from":"2026-11-22T23:00:00Z"}` {
		t.Errorf("exit %d, %q\n%s\nwant\n%s\nasked %s", code, stderr, stdout, want, asked)
	}
	code, stdout, _ = runCommand(append(args, "--json", "--tags", "service:web,host:a:b", "--by", "host,disk", "--operator", "ge", "--recover", "60", "--every", "10s", "--duration", "1m",
		"--deadman", "10m", "--level", "warn", "--to", "1h ago")...)
	wantAsked := `POST /alerts/test {"metric":"cpu_used","threshold":"80.5","tags":{"host":"a:b","service":"web"},"by":["host","disk"],"level":"warn","operator":"ge","duration":"1m","every":"10s","recover":"60","deadman":"10m","from":"2026-11-22T23:00:00Z","to":"1h"}`
	var whole kapa.Trial
	if err := json.Unmarshal([]byte(stdout), &whole); code != command.ExitOK || err != nil || len(whole.Posts) != 2 || asked != wantAsked {
		t.Errorf("exit %d, %v, %s, asked %s", code, err, stdout, asked)
	}
	for _, test := range []struct {
		status, code int
		want         string
	}{
		{http.StatusBadRequest, command.ExitUsage, "pulse alert test: this is why\n"},
		{http.StatusNotFound, command.ExitFailure, "has no tests of alerts: is it an older pulse?\n"},
		{http.StatusMethodNotAllowed, command.ExitFailure, "has no tests of alerts: is it an older pulse?\n"},
		{http.StatusUnauthorized, command.ExitFailure, "the server does not take this token: give its own by --token or PULSE_TOKEN; its config file has it\n"},
		{http.StatusServiceUnavailable, command.ExitFailure, "the server answered 503: this is why\n"},
	} {
		status = test.status
		if code, stdout, stderr := runCommand(args...); code != test.code || stdout != "" || !strings.HasSuffix(stderr, test.want) {
			t.Errorf("%d: exit %d, %q, %q", test.status, code, stdout, stderr)
		}
	}
	asked = ""
	for _, wrong := range [][]string{
		{"--threshold", "1", "--from", "1h"}, {"--metric", "x", "--from", "1h"}, {"--metric", "x", "--threshold", "1"}, {"--metric", "x", "--threshold", "1", "--from", "never"},
		{"--metric", "x", "--threshold", "1", "--from", "1h", "--to", "never"}, {"--metric", "x", "--threshold", "1", "--from", "1h", "--tags", "web"},
		{"--metric", "x", "--threshold", "1", "--from", "1h", "--tags", "a:b,a:c"}, {"--metric", "x", "--threshold", "1", "--from", "1h", "extra"},
	} {
		if code, _, stderr := runCommand(append([]string{"alert", "test", "--api", s.URL}, wrong...)...); code != command.ExitUsage || strings.Count(stderr, "\n") != 1 || asked != "" {
			t.Errorf("%q: exit %d, %q, asked %q", wrong, code, stderr, asked)
		}
	}
	if code := run(t.Context(), args, fullDisk{}, io.Discard); code != command.ExitFailure {
		t.Errorf("a full disk: exit %d", code)
	}
	s.Close()
	if code, _, stderr := runCommand(args...); code != command.ExitFailure || !strings.Contains(stderr, "is a server running there?") {
		t.Errorf("no server: exit %d, %q", code, stderr)
	}
}

// pulse alert lists what is watched.
func TestAlertCommand(t *testing.T) {
	var out strings.Builder
	three, one := 3, 1
	alerts := []kapa.View{
		{Alert: kapa.Alert{ID: "a", Metric: "cpu_used", Operator: kapa.Less, Threshold: 8, Duration: kapa.Duration(time.Minute), Tags: map[string]string{"host": "web1"}}, Status: kapa.Status{State: kapa.Executing, Level: "OK"}},
		{Alert: kapa.Alert{ID: "b", Metric: "ram", Operator: kapa.NotEqual, By: []string{"host"}}, Status: kapa.Status{State: kapa.Pending, GroupsFiring: &one, GroupsWatched: &three}},
	}
	const want = `ALERT  STATE      LEVEL  FIRING  NAME             FIRES WHEN
a      executing  OK     -       [web1] cpu_used  mean of 1m < 8
b      pending    -      1 of 3  [*] ram          mean of 0s != 0
`
	if err := printAlerts(&out, alerts); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := printAlerts(&out, nil); err != nil || out.String() != "no alerts: POST /alerts makes them\n" {
		t.Errorf("%v, %q", err, out.String())
	}
	if err := printAlerts(fullDisk{}, alerts); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a full disk: %v", err)
	}
}
