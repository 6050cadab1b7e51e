package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
)

// TestAlerts plays the same alerts and readings with both programs that evaluate alerts, at the
// same time. Each case uses a real server process. A relay sends readings at one end, and the posts
// arrive at the other.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Go(func() { t.Run("built in", testAlertsBuiltIn) })
	both.Go(func() { t.Run("kapacitor", testAlertsKapacitor) })
	both.Wait()
}

func testAlertsBuiltIn(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "3600", "-l", "WARN")
	// Ten seconds are longer than a busy machine delays the readings that this process sends.
	deadman := alertCase{"deadman", map[string]any{"deadman": "10s"}, []alertStep{
		{send: "10"}, {send: "none", post: "OK CRITICAL none for 10s from deadman"}, {send: "none"}, {send: "10", post: "CRITICAL OK 10"}}}
	playAlerts(t, s, append(alertCases(), deadman), func(name string) (string, string) { return name, name }, func(string) error { return nil })
}

func testAlertsKapacitor(t *testing.T) {
	influxd := testtools.StartInfluxd(t, testtools.InfluxDB18)
	kapacitord := testtools.StartKapacitord(t, influxd.Addr, testtools.Setting{Section: "logging", Line: `level = "INFO"`})
	s := startServer(t, t.TempDir(), "--influx-address", influxd.Addr, "--kapacitor-address", kapacitord.Addr, "-p", "3600", "-l", "WARN")
	_, err := putAlert(s, http.MethodPost, map[string]any{"metric": "load", "threshold": 80, "deadman": "1m", "post": "http://127.0.0.1/"})
	if err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "deadman must be left out") {
		t.Errorf("a deadman, which Kapacitor has not: %v", err)
	}
	// Kapacitor uses the name that a series has in InfluxDB.
	stored := func(name string) (string, string) { return influx.CleanMeasurement(name), influx.Clean(name) }
	playAlerts(t, s, alertCases(), stored, func(id string) error {
		response, err := alertsClient.Get(kapacitord.Addr + "/kapacitor/v1/tasks?fields=id&limit=1000")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		tasks, err := io.ReadAll(response.Body)
		if err == nil && (response.StatusCode != http.StatusOK || strings.Contains(string(tasks), id)) {
			err = fmt.Errorf("%s: %s", response.Status, tasks)
		}
		return err
	})
}

// An alertCase is one alert on one relay, and its steps.
type alertCase struct {
	name  string         // the relay's id, and the path for the posts
	alert map[string]any // its fields; by default the relay's "load" over 80, and duration and every are a second
	steps []alertStep
}

// An alertStep is one event and the post that it causes.
type alertStep struct {
	send   string         // the readings from now on, one value for each collector; "": unchanged
	put    map[string]any // fields that a PUT changes
	delete bool           // deletes the alert
	post   string         // "before after value" as in "OK CRITICAL 90"; "": no post
}

const (
	// readEvery is the interval of a relay's readings. alertSilence is the pause before readings
	// change. It is longer than the alerts' duration, so that no mean covers both. alertHold is the
	// time in which evaluations must cause no post.
	readEvery    = 100 * time.Millisecond
	alertSilence = 1500 * time.Millisecond
	alertHold    = 2500 * time.Millisecond
)

func alertCases() []alertCase {
	cases := []alertCase{
		{"crossed, held, recovered, crossed again", nil, []alertStep{
			{send: "10"}, {send: "90", post: "OK CRITICAL 90"}, {send: "95"}, {send: "10", post: "CRITICAL OK 10"}, {send: "85", post: "OK CRITICAL 85"}}},
		{"recover", map[string]any{"recover": 60, "level": "warn"}, []alertStep{
			{send: "70"}, {send: "90", post: "OK WARNING 90"}, {send: "61"}, {send: "60", post: "WARNING OK 60"}, {send: "80"}}},
		{"recover below", map[string]any{"operator": "lt", "recover": "90.5"}, []alertStep{
			{send: "79", post: "OK CRITICAL 79"}, {send: "90.25"}, {send: "90.5", post: "CRITICAL OK 90.5"}}},
		{"info, text for a threshold", map[string]any{"level": "info", "threshold": "80.5"}, []alertStep{
			{send: "80.5"}, {send: "80.75", post: "OK INFO 80.75"}, {send: "-1e6", post: "INFO OK -1e+06"}}},
		{"no tags", map[string]any{"tags": map[string]string{}, "metric": "alone"}, []alertStep{
			{send: "100 40"}, {send: "100 80", post: "OK CRITICAL 90"}}},
		{"another tag", map[string]any{"tags": map[string]string{"service": "shop", "zone": "a:b", "host": "another tag"}}, []alertStep{
			{send: "10 1000"}, {send: "90 -1000", post: "OK CRITICAL 90"}}},
		{"silence", map[string]any{"operator": "lt"}, []alertStep{
			{send: "90"}, {send: "none"}, {send: "10", post: "OK CRITICAL 10"}, {send: "none"}}},
		{"deleted", nil, []alertStep{
			{send: "90", post: "OK CRITICAL 90"}, {delete: true}, {send: "10"}}},
		{"changed", nil, []alertStep{
			{send: "90", post: "OK CRITICAL 90"},
			{put: map[string]any{"threshold": "95"}, post: "CRITICAL OK 90"},
			{put: map[string]any{"operator": "le", "level": "warn"}, post: "OK WARNING 90"},
			{put: map[string]any{"level": "crit"}, post: "WARNING CRITICAL 90"},
			{put: map[string]any{"level": "info"}, post: "CRITICAL INFO 90"},
			{put: map[string]any{"level": "info"}},
			{send: "96", post: "INFO OK 96"}}},
	}
	cases = append(cases, alertCase{"renamed", nil, []alertStep{
		{send: "90", post: "OK CRITICAL 90"}, {put: map[string]any{"metric": "other"}}, {send: "90", post: "OK CRITICAL 90"}, {send: "10", post: "CRITICAL OK 10"}}})
	for op, values := range map[string][2]string{"gt": {"80", "81"}, "ge": {"79", "80"}, "lt": {"80", "79"}, "le": {"81", "80"}, "eq": {"81", "80"}, "ne": {"80", "81"}} {
		cases = append(cases, alertCase{"operator " + op, map[string]any{"operator": op}, []alertStep{
			{send: values[0]}, {send: values[1], post: "OK CRITICAL " + values[1]}, {send: values[0], post: "CRITICAL OK " + values[0]}}})
	}
	return cases
}

// playAlerts plays all cases and the hostile names at the same time. stored returns the names of
// the series and the field that a post uses for a stat. gone reports whether Kapacitor has no task
// of the alert any more, because Kapacitor learns of a DELETE only after the DELETE was answered.
func playAlerts(t *testing.T, s *pulseproc.Server, cases []alertCase, stored func(stat string) (series, field string), gone func(id string) error) {
	r := startReceiver(t)
	var all sync.WaitGroup
	for _, c := range cases {
		all.Go(func() {
			relay, err := connectSteady(t, s.RelayAddr, c.name, "service:shop,zone:a:b", "service:other")
			if err == nil {
				err = c.play(t, s, r, relay, gone)
			}
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
	all.Go(func() {
		if err := playGroups(t, s, r); err != nil {
			t.Errorf("groups: %v", err)
		}
	})
	all.Go(func() {
		if err := playHostileNames(t, s, r, stored); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
}

func (c *alertCase) play(t *testing.T, s *pulseproc.Server, r *receiver, relay *steadyRelay, gone func(id string) error) error {
	fields := map[string]any{"tags": map[string]string{"host": c.name}, "metric": "load", "threshold": 80, "duration": "1s", "every": "1s", "post": r.url(c.name)}
	maps.Copy(fields, c.alert)
	id, err := putAlert(s, http.MethodPost, fields)
	if err != nil {
		return err
	}
	fields["id"] = id
	for i, step := range c.steps {
		switch {
		case step.put != nil:
			maps.Copy(fields, step.put)
			same, err := putAlert(s, http.MethodPut, fields)
			if err != nil || same != id {
				return fmt.Errorf("step %d: PUT answered the id %q, %v; it was %q", i, same, err, id)
			}
		case step.delete:
			if err := callAPI(s, http.MethodDelete, "/alerts/"+id, nil, nil); err != nil {
				return err
			}
			if err := callAPI(s, http.MethodGet, "/alerts/"+id, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
				return fmt.Errorf("step %d: after DELETE, GET says %v", i, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if err := s.Await(ctx, func() (bool, error) { return gone(id) == nil, nil }); err != nil {
				return fmt.Errorf("step %d: the alert's end: %w", i, err)
			}
		default:
			metric := fields["metric"].(string)
			if err := relay.hush(); err != nil {
				return err
			}
			time.Sleep(alertSilence) // the silence is part of the case
			if step.send != "none" {
				relay.say(readings(metric, step.send))
			}
		}
		if step.post == "" {
			time.Sleep(alertHold) // a post now would be found later
			continue
		}
		got, err := r.next(c.name)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i, step.post, err)
		}
		metric := fields["metric"].(string)
		if want := wantedPost(fields, metric, metric, step.post); got != want {
			return fmt.Errorf("step %d: posted\n%s\nwanted\n%s", i, got, want)
		}
	}
	time.Sleep(alertHold)
	if more := r.rest(c.name); len(more) > 0 {
		return fmt.Errorf("posted besides: %s", more)
	}
	return nil
}

// readings returns the answer of a relay's collectors c0, c1...
func readings(metric, values string) string {
	var all []string
	for i, value := range strings.Fields(values) {
		all = append(all, fmt.Sprintf("c%d-%s:%s", i, metric, value))
	}
	return "got " + strings.Join(all, ",")
}

// wantedPost returns the body of a post in the form of canonicalPost.
func wantedPost(alert map[string]any, series, field, post string) string {
	who := "*"
	if host, ok := alert["tags"].(map[string]string)["host"]; ok {
		who = host
	}
	return wantedGroupPost(fmt.Sprintf("[%s] %s", who, alert["metric"]), nil, series, field, post)
}

// wantedGroupPost is wantedPost for the group with the name id and these tags.
func wantedGroupPost(id string, tags map[string]string, series, field, post string) string {
	parts := strings.SplitN(post, " ", 3)
	var value any // null if there is no value
	if number, err := strconv.ParseFloat(parts[2], 64); err == nil {
		value = number
	}
	row := map[string]any{"name": series, "columns": []string{"time", "mean_" + field, "value"}, "values": [][]any{{"T", value, value}}}
	if tags != nil {
		row["tags"] = tags
	}
	data, err := json.Marshal(map[string]any{
		"id": id, "message": fmt.Sprintf("%s is %s value:%s", id, parts[1], parts[2]), "level": parts[1], "previousLevel": parts[0], "recoverable": true,
		"data": map[string]any{"series": []any{row}},
	})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// putAlert creates or replaces an alert and waits until the alert is watched.
func putAlert(s *pulseproc.Server, method string, fields map[string]any) (id string, err error) {
	var view struct {
		ID     string
		Status struct{ State, Error string }
	}
	if err := callAPI(s, method, "/alerts", fields, &view); err != nil {
		return "", err
	}
	for deadline := time.Now().Add(2 * time.Minute); view.Status.State != "executing"; {
		if time.Now().After(deadline) {
			return "", fmt.Errorf("the alert %s is not executing: %+v", view.ID, view.Status)
		}
		time.Sleep(20 * time.Millisecond) // polling, with a deadline
		if err := callAPI(s, http.MethodGet, "/alerts/"+view.ID, nil, &view); err != nil {
			return "", err
		}
	}
	return view.ID, nil
}
