package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// An askedRange is a question to /range, and what a server answered.
type askedRange struct {
	path       string
	stat, verb string
	byHost     bool
	host       string // "": all
	from, to   int64  // whole points, ns
	step       int64  // ns
	raw        bool   // made of readings, not of windows
	points     map[string]float64
}

// askRanges asks random questions about the last hours before now. /hourly, and /query of single
// readings, must answer the same when they are asked the same.
func askRanges(t *testing.T, s *pulseproc.Server, random *rand.Rand, now time.Time, n int) (asked []askedRange) {
	t.Helper()
	points := 0
	for range n {
		step := []int64{10, 45, 60, 90, 300, 3600}[random.IntN(6)]
		q := askedRange{stat: relaytest.FleetStat(random.IntN(5)), verb: []string{"mean", "min", "max", "sum", "count", "spread", "p50", "p95"}[random.IntN(8)],
			byHost: random.IntN(2) == 0, step: step * int64(time.Second)}
		start := now.Unix() - 1 - random.Int64N(7*3600)
		stop := now.Unix()
		if random.IntN(3) == 0 {
			stop = start + 1 + random.Int64N(now.Unix()-start)
		}
		q.raw = q.verb[0] == 'p' || step%60 != 0
		q.from, q.to = start*1e9/q.step*q.step, (stop*1e9+q.step-1)/q.step*q.step
		q.path = fmt.Sprintf("/range/%s?verb=%s&start=%d&stop=%d&step=%d", q.stat, q.verb, start, stop, step)
		if q.byHost {
			q.path += "&by=host"
		}
		if random.IntN(3) == 0 {
			q.host = "pusher-000"
			q.path += "&host=" + q.host
		}
		q.points = rangePoints(t, s, q.path)
		if step == 3600 && !q.byHost && !q.raw {
			at := func(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
			path := fmt.Sprintf("/hourly/%s?verb=%s&start=%s&stop=%s&backfill=-1e9", q.stat, q.verb, at(start), at(stop))
			if q.host != "" {
				path += "&host=" + q.host
			}
			var list []struct {
				Time  int64
				Value float64
			}
			if err := s.Get(path, &list); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			hours := make(map[string]float64)
			for _, h := range list {
				if h.Value != -1e9 {
					hours[key("", q.stat, h.Time*1e9)] = h.Value
				}
			}
			if !maps.Equal(hours, q.points) {
				t.Errorf("%s and %s: %s", q.path, path, difference(q.points, hours))
			}
		}
		if q.raw {
			if same := queriedPoints(t, s, q); !maps.EqualFunc(same, q.points, nearly) {
				t.Errorf("%s and /query: %s", q.path, difference(q.points, same))
			}
		}
		asked = append(asked, q)
		points += len(q.points)
	}
	t.Logf("%d questions to /range had %d points", n, points)
	return asked
}

// rangePoints returns the points of an answer that are not null.
func rangePoints(t *testing.T, s *pulseproc.Server, path string) map[string]float64 {
	t.Helper()
	var answer struct {
		Stat   string
		Series []struct {
			Tags   map[string]string
			Points [][2]*float64
		}
	}
	if err := s.Get(path, &answer); err != nil && !strings.Contains(err.Error(), "is known") { // that has no points
		t.Errorf("%s: %v", path, err)
	}
	points := make(map[string]float64)
	for _, one := range answer.Series {
		for _, p := range one.Points {
			if p[1] != nil {
				points[key(one.Tags["host"], answer.Stat, int64(*p[0])*1e9)] = *p[1]
			}
		}
	}
	return points
}

// nearly reports whether two values are the same but for the order in which they were added up.
func nearly(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

// queriedPoints asks /query what a question to /range asks, in InfluxQL.
func queriedPoints(t *testing.T, s *pulseproc.Server, q askedRange) map[string]float64 {
	t.Helper()
	call := fmt.Sprintf("%s(%s)", q.verb, q.stat)
	if percent, ok := strings.CutPrefix(q.verb, "p"); ok {
		call = fmt.Sprintf("percentile(%s, %s)", q.stat, percent)
	}
	statement := fmt.Sprintf("SELECT %s FROM one_day.%s WHERE time >= %d AND time < %d", call, q.stat, q.from, q.to)
	if q.host != "" {
		statement += fmt.Sprintf(" AND host = '%s'", q.host)
	}
	statement += fmt.Sprintf(" GROUP BY time(%dns)", q.step)
	if q.byHost {
		statement += ", host"
	}
	var answer struct {
		Results []struct {
			Error  string
			Series []struct {
				Tags   map[string]string
				Values [][2]json.Number
			}
		}
	}
	path := "/query?" + url.Values{"db": {"statistics"}, "epoch": {"ns"}, "q": {statement + " fill(none)"}}.Encode()
	if err := s.Get(path, &answer); err != nil || len(answer.Results) != 1 || answer.Results[0].Error != "" {
		t.Errorf("%s: %+v, %v", statement, answer, err)
		return nil
	}
	points := make(map[string]float64)
	for _, one := range answer.Results[0].Series {
		for _, p := range one.Values {
			at, err := p[0].Int64()
			value, err2 := p[1].Float64()
			if err := errors.Join(err, err2); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
			points[key(one.Tags["host"], q.stat, at)] = value
		}
	}
	return points
}

// compareRanges compares the answers with a recount of the journal.
func compareRanges(t *testing.T, asked []askedRange, want *count) {
	t.Helper()
	for _, q := range asked {
		values := make(map[string][]float64)
		for k, v := range want.raw {
			var host, stat string
			var at int64
			if _, err := fmt.Sscan(k, &host, &stat, &at); err != nil {
				t.Fatal(k, err)
			}
			if stat != q.stat || q.host != "" && host != q.host {
				continue
			}
			if !q.raw {
				at -= at % int64(window)
			}
			if !q.byHost {
				host = ""
			}
			if at >= q.from && at < q.to {
				k := key(host, stat, at-at%q.step)
				values[k] = append(values[k], v)
			}
		}
		points := make(map[string]float64, len(values))
		for k, list := range values {
			points[k] = verbOf(q.verb, list)
		}
		if !maps.EqualFunc(q.points, points, nearly) {
			t.Errorf("%s has %d points, a recount %d: %s", q.path, len(q.points), len(points), difference(q.points, points))
		}
	}
}

// verbOf computes a verb over readings, of which there is one at least.
func verbOf(verb string, list []float64) float64 {
	slices.Sort(list)
	n := float64(len(list))
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	switch verb {
	case "mean":
		return sum / n
	case "min":
		return list[0]
	case "max":
		return list[len(list)-1]
	case "sum":
		return sum
	case "count":
		return n
	case "spread":
		return list[len(list)-1] - list[0]
	}
	var percent float64
	if _, err := fmt.Sscanf(verb, "p%g", &percent); err != nil {
		panic(err)
	}
	return list[int(math.Floor(n*percent/100+0.5))-1]
}
