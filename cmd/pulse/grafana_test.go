package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// dashboard is what Grafana asks of the data sources for a dashboard.
type dashboard struct {
	UID    string
	Panels []struct {
		Title   string
		Type    string
		Targets []struct {
			Datasource struct{ Type, UID string }
			Query      string
			Expr       string
		}
	}
	Templating struct {
		List []struct{ Name, Query string }
	}
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("../../docs/grafana/dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = d
	}
	return all
}

// expand puts in for variables what Grafana does.
func expand(query, host string, from, to time.Time) string {
	return strings.NewReplacer(
		"$timeFilter", fmt.Sprintf("time >= %dms and time <= %dms", from.UnixMilli(), to.UnixMilli()),
		"$__interval", "10s", "/^$host$/", "/^("+regexp.QuoteMeta(host)+"|other)$/", "'$host'", "'"+host+"'").Replace(query)
}

// No panel of docs/grafana is dead: each query gives numbers on a Pulse with live readings, and each
// metric is one of /metrics.
func TestGrafanaPanels(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "--host-stats", "-p", "1", "--aggregate-interval", "1")
	var hosts []struct{ ID string }
	await(t, s, "a relay", time.Minute, func() error {
		if err := s.Get("/relays", &hosts); err != nil || len(hosts) == 0 {
			return errors.Join(err, errors.New("none yet"))
		}
		return nil
	})
	host := hosts[0].ID
	var metrics []string
	await(t, s, "/metrics", time.Minute, func() error {
		text, err := askAs(s, "Bearer secret", http.MethodGet, "/metrics", "")
		for line := range strings.Lines(text) {
			if name := regexp.MustCompile(`^[a-z_]+`).FindString(line); name != "" {
				metrics = append(metrics, name)
			}
		}
		return err
	})
	queries, exprs := 0, 0
	for file, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			queries++
			await(t, s, file+": variable "+v.Name, time.Minute, func() error {
				text, err := askGrafana(s, v.Query)
				if err == nil && !strings.Contains(text, `["host","`+host+`"]`) {
					err = errors.New(text)
				}
				return err
			})
		}
		for _, p := range d.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: %s asks nothing", file, p.Title)
			}
			for _, target := range p.Targets {
				what := file + ": " + p.Title
				switch target.Datasource.UID {
				case "pulse":
					queries++
					// The rows of the windows come within minutes.
					await(t, s, what+": "+target.Query, 5*time.Minute, func() error {
						now := time.Now()
						return hasNumbers(s, expand(target.Query, host, now.Add(-15*time.Minute), now))
					})
				case "pulse-metrics":
					exprs++
					names := regexp.MustCompile(`\b(pulse|process|go)_[a-z_]+`).FindAllString(target.Expr, -1)
					for _, name := range names {
						if !slices.Contains(metrics, name) {
							t.Errorf("%s: /metrics has no %s", what, name)
						}
					}
					if len(names) == 0 {
						t.Errorf("%s: no metric in %s", what, target.Expr)
					}
				default:
					t.Errorf("%s: the data source %s is not provisioned", what, target.Datasource.UID)
				}
			}
		}
	}
	if queries < 30 || exprs < 30 {
		t.Errorf("%d queries and %d expressions: are panels gone?", queries, exprs)
	}
}

// askGrafana sends InfluxQL as Grafana does.
func askGrafana(s *pulseproc.Server, q string) (string, error) {
	return askAs(s, "Basic "+base64.StdEncoding.EncodeToString([]byte("pulse:secret")), http.MethodPost, "/query?db=statistics&epoch=ms", url.Values{"q": {q}}.Encode())
}

func askAs(s *pulseproc.Server, authorization, method, path, form string) (string, error) {
	request, err := http.NewRequest(method, "http://"+s.HTTPAddr+path, strings.NewReader(form))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", authorization)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return string(body), err
}

// hasNumbers returns an error unless the answer to a query holds a number that is not a time.
func hasNumbers(s *pulseproc.Server, q string) error {
	text, err := askGrafana(s, q)
	if err != nil {
		return err
	}
	var answer struct {
		Results []struct {
			Error  string
			Series []struct{ Values [][]any }
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return err
	}
	for _, result := range answer.Results {
		if result.Error != "" {
			return errors.New(result.Error)
		}
		for _, series := range result.Series {
			for _, values := range series.Values {
				if slices.ContainsFunc(values[1:], func(v any) bool { _, ok := v.(float64); return ok }) {
					return nil
				}
			}
		}
	}
	return fmt.Errorf("no number: %.300s", text)
}
