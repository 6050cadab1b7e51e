package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the fleet, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == fleetCommand {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestParse(t *testing.T) {
	for text, want := range map[string]size{
		"100x10@1s":   {100, 10, time.Second},
		"10000x10@5s": {10_000, 10, 5 * time.Second},
		"1x1@1m":      {1, 1, time.Minute},
		"":            {}, "100x10": {}, "x10@1s": {}, "100x@1s": {}, "100x10@": {}, "100x10@1": {}, "100 x10@1s": {}, "100x10x2@1s": {},
		"0x10@1s": {}, "-1x10@1s": {}, "10x0@1s": {}, "10x10@500ms": {}, "10x10@1500ms": {}, "10x10@0s": {}, "99999999x10@1s": {},
	} {
		z, err := parseSize(text)
		if want == (size{}) && err == nil || want != (size{}) && (err != nil || z != want) {
			t.Errorf("%q: %v, %v", text, z, err)
		}
	}
	s, markdown, err := parse([]string{"-sizes", "5x10@1s,6x10@2s", "-peers", "influxdb,pulse", "-long", "-warm", "20s", "-markdown"})
	if err != nil || !markdown || len(s.sizes) != 2 || s.warm+s.lasts != longTotal || s.servers[0].name != "influxdb" || s.servers[1].name != "pulse" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, args := range [][]string{{"-peers", "graphite"}, {"-for", "0s"}, {"-warm", "-1s"}, {"-long", "-warm", "10m"}, {"-sizes", "5"}, {"extra"}} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestEvaluate(t *testing.T) {
	z := size{100, 10, time.Second} // 1,000 readings a second
	s := &sitting{least: 0.98, most: 1.1}
	began := time.Now()
	old := used{at: began, cpu: time.Second, machine: 10 * time.Second, written: 1000, disk: 5000, rss: 1, peak: 2}
	now := used{at: began.Add(10 * time.Second), cpu: 1200 * time.Millisecond, machine: 15 * time.Second, written: 101_000, disk: 25_000, rss: 30, peak: 40}
	// 10,100 readings were counted over 10.1 s, so 10,000 of them belong to the 10 s of the rest.
	first, last := counted{at: began, taken: 500, waiting: 700}, counted{at: began.Add(10_100 * time.Millisecond), taken: 10_600, waiting: 1700}
	r, err := s.evaluate(z, first, last, old, now)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("share", r.share, 1)
	near("CPU", r.cpu, 20)
	near("cores", r.cores, 0.02)
	near("others", r.others, 0.48)
	near("written", r.written, 10)
	near("disk", r.grown, 2)
	if r.rss != 30 || r.peak != 40 || r.disk != 25_000 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []counted{
		{last.at, 500, 0}, {last.at, 10_250, 0}, {last.at, 11_700, 0}, // too few or too many
		{last.at, 10_600, 2000}, // falls behind
	} {
		if r, err := s.evaluate(z, first, bad, old, now); err == nil {
			t.Errorf("%+v gives the figure %v", bad, r)
		}
	}
	first.waiting = 2000 // and was still busy with the time before
	if r, err := s.evaluate(z, first, last, old, now); err != nil {
		t.Errorf("%v, %v", r, err)
	}
	first.waiting = 5000
	if r, err := s.evaluate(z, first, last, old, now); err == nil {
		t.Errorf("after a backlog: %v", r)
	}
}

func TestCounts(t *testing.T) {
	const prometheus = `# TYPE prometheus_tsdb_head_samples_appended_total counter
prometheus_tsdb_head_samples_appended_total{type="float"} 30
prometheus_tsdb_head_samples_appended_total{type="histogram"} 7
prometheus_target_interval_length_seconds{interval="1s",quantile="0.5"} 1
prometheus_target_interval_length_seconds_sum{interval="1s"} 2
prometheus_target_interval_length_seconds_count{interval="1s"} 2
`
	if n, err := prometheusReadings([]byte(prometheus)); err != nil || n != 20 {
		t.Errorf("Prometheus: %v, %v", n, err)
	}
	if n, err := prometheusReadings([]byte("go_goroutines 1\n")); err == nil {
		t.Errorf("Prometheus without the metrics: %v", n)
	}
	const influx = `{"system": {"uptime": 1}, "cmdline": ["influxd"], "write": {"name":"write","values":{"pointReq":99}},
"httpd:127.0.0.1:1": {"name":"httpd","values":{"pointsWrittenOK":40,"pointsWrittenFail":3}}}`
	if n, err := influxReadings([]byte(influx)); err != nil || n != 40 {
		t.Errorf("InfluxDB: %v, %v", n, err)
	}
	for _, bad := range []string{`{}`, `{"httpd":{"values":{}}}`, `{"httpd":1}`, ``} {
		if n, err := influxReadings([]byte(bad)); err == nil {
			t.Errorf("InfluxDB %s: %v", bad, n)
		}
	}
}

func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	empty, err := diskUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "full"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	// Servers reserve room in files that they have not written yet.
	if err := sparse.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	if n, err := diskUse(dir); err != nil || n-empty < 1<<20 || n-empty > 2<<20 {
		t.Errorf("%d bytes, %d when empty: %v", n, empty, err)
	}
	if _, err := diskUse(filepath.Join(dir, "nothing")); err != nil {
		t.Error(err)
	}
}

// A sitting of seconds gives figures for Pulse, with both kinds of relays, and for InfluxDB.
func TestSitting(t *testing.T) {
	t.Parallel()
	s, _, err := parse([]string{"-sizes", "5x10@1s", "-peers", "pulse,pulse-0.2,influxdb", "-warm", "1s", "-for", "3s"})
	if err != nil {
		t.Fatal(err)
	}
	s.dir = t.TempDir()
	s.least, s.most = 0, 2 // one poll of a host is a third of those due, and the machine may be busy
	var flags []string
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		flags = []string{"-race"} // what the other tests have built already
	}
	if err := s.build(t.Context(), flags...); err != nil {
		t.Fatal(err)
	}
	results, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.servers {
		r := results[cell{s.sizes[0], c.name}]
		if r.readings < 10 || c.ours && r.cpu <= 0 || r.rss < 1<<20 || r.peak < r.rss || r.disk == 0 {
			t.Errorf("%s: %+v", c.title, r)
		}
	}
	var b strings.Builder
	newTable(s, results).print(&b, false)
	if text := b.String(); strings.Count(text, "\n") != 5 || strings.Contains(text, "failed") {
		t.Error(text)
	}
}
