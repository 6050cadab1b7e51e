package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/past"
)

// TestViewsOfEdges has three relays of one id, two of them of edges. One edge catches up with two
// hours beside what is live. All views answer for each of them, over a restart too.
func TestViewsOfEdges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	config, err := ParseConfig([]string{"-s", "-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", "", "--influx-address", "embedded",
		"-a", "1", "--data-dir", dir})
	if err != nil {
		t.Fatal(err)
	}
	start := func() *App {
		app, err := NewApp(t.Context(), config, command.NewLogger(t.Output(), config.LogLevel))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return app
	}
	app := start()
	defer func() {
		if err := app.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	get := func(path string, into any) error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+app.query.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-AUTH-TOKEN", defaultToken)
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, resp.Status)
		}
		return json.NewDecoder(resp.Body).Decode(into)
	}
	until := func(what string, ok func() error) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		err := ok()
		for ; err != nil && time.Now().Before(deadline); err = ok() {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-t.Context().Done():
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	// fra1 is two hours behind. Each minute has an event of it, and one of each of the others now.
	began := time.Now().Truncate(time.Hour).Add(-2 * time.Hour)
	counts := map[string]float64{}
	perHour := map[int64]float64{} // of fra1
	add := func(from, to int) {
		t.Helper()
		for minute := from; minute < to; minute++ {
			now, then := time.Now(), began.Add(time.Duration(minute)*time.Minute)
			var records []journal.Record // as the link stores them
			for edge, at := range map[string]time.Time{"": now, "ams1": now, "fra1": then} {
				records = append(records, journal.Record{Event: &codec.Event{Edge: edge, Relay: "web1", Time: at.UnixNano(), Past: edge == "fra1",
					Collectors: []codec.Collector{{Name: "cpu", Stats: []codec.Stat{{ID: "cpu", Value: float64(len(edge) * 10)}}}}}})
				counts[edge]++
			}
			perHour[then.Truncate(time.Hour).Unix()]++
			if _, err := app.journal.AppendInOrder(t.Context(), records); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(stage string) {
		t.Helper()
		for edge, n := range counts {
			until(stage+", edge "+edge, func() error {
				var latest stat
				if err := get("/latest/cpu?edge="+edge, &latest); err != nil && edge != "fra1" {
					return err
				}
				var hours []stat
				if err := get("/hourly/cpu?verb=count&host=web1&edge="+edge, &hours); err != nil {
					return err
				}
				sum := 0.0
				for _, h := range hours {
					sum += h.Value
					if want := perHour[h.Time]; edge == "fra1" && h.Value != want {
						return fmt.Errorf("%v readings in the hour of %v, want %v", h.Value, time.Unix(h.Time, 0), want)
					}
				}
				if sum != n {
					return fmt.Errorf("%v readings in hours, want %v: %+v", sum, n, hours)
				}
				return nil
			})
		}
	}
	add(0, 70)
	check("at first")
	if err := app.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	app = start()
	add(70, 100)
	check("after a restart")

	job, err := app.past.Create(past.Request{Projections: []string{past.All}, From: began, To: began.Add(time.Hour), Edge: "fra1"})
	if err != nil {
		t.Fatal(err)
	}
	until("the replay", func() error {
		if job, err = app.past.Get(job.ID); err == nil && !job.Ended() {
			err = fmt.Errorf("%+v", job)
		}
		return err
	})
	for _, part := range job.Parts {
		if part.Events != 60 || part.Refused+part.Lost+part.Expired != 0 {
			t.Errorf("the replay of an hour of fra1: %+v", part)
		}
	}
	check("after a replay")
}
