package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// A contender is a server, and how the fleet speaks to it.
type contender struct {
	name, title string
	ours        bool
	kind        kind
	perStat     bool // each stat of a relay is a collector of its own
	start       func(ctx context.Context, s *sitting, dir string, z size) (server, error)
}

// The order is that of the sitting.
var contenders = []contender{
	{"pulse", "Pulse, ten stats a collector", true, relays, false, startPulse},
	{"pulse-0.2", "Pulse, a collector a stat", true, relays, true, startPulse},
	{"victoria-metrics", "VictoriaMetrics", false, targets, false, startVictoriaMetrics},
	{"prometheus", "Prometheus", false, targets, false, startPrometheus},
	{"influxdb", "InfluxDB 1.8", false, points, false, startInfluxDB},
}

func contenderNames() string {
	var names []string
	for _, c := range contenders {
		names = append(names, c.name)
	}
	return strings.Join(names, ",")
}

// A server is a running contender.
type server interface {
	// address is where the fleet sends readings, or of targets, where it listens.
	address() string
	pid() int
	// readings returns how many readings of the fleet the server has taken, as it says itself, and
	// how many of them still wait until they are stored.
	readings(ctx context.Context) (taken, waiting float64, err error)
	log() string
	stop()
}

// A pulseServer is Pulse with the embedded engine and all other flags at their defaults.
type pulseServer struct {
	*pulseproc.Server
	release func()
}

func startPulse(ctx context.Context, s *sitting, dir string, z size) (server, error) {
	nats, release, err := freeport.Claim()
	if err != nil {
		return nil, err
	}
	p, err := pulseproc.New(pulseproc.Options{Binary: s.binary, DataDir: dir, Args: []string{
		"--influx-address", "embedded", "--poll-interval", strconv.Itoa(int(z.every.Seconds())), "--nats-listen-address", nats}})
	if err == nil {
		err = p.Start(ctx)
	}
	if err != nil {
		release()
		return nil, err
	}
	return &pulseServer{p, release}, nil
}

func (p *pulseServer) address() string { return p.RelayAddr }
func (p *pulseServer) pid() int        { return p.Pid() }
func (p *pulseServer) log() string     { return p.Log() }
func (p *pulseServer) stop()           { p.Kill(); p.release() }

// readings counts what is in the journal. A reading that is not yet a raw point in InfluxDB waits.
func (p *pulseServer) readings(context.Context) (taken, waiting float64, err error) {
	stored, err1 := p.Metric("pulse_projector_points_written_total", `projection="influx_raw"`)
	taken, err2 := p.Metric("pulse_ingest_readings_total")
	return taken, taken - stored, errors.Join(err1, err2)
}

func startVictoriaMetrics(ctx context.Context, _ *sitting, dir string, z size) (server, error) {
	p, config, err := newScraper(dir, z)
	if err != nil {
		return nil, err
	}
	p.numbers, p.count = "/metrics", victoriaReadings
	return p, p.start(ctx, "victoria-metrics", "/health",
		"-storageDataPath="+dir, "-promscrape.config="+config, "-httpListenAddr="+p.listen)
}

// victoriaReadings returns how many samples came from the hosts.
func victoriaReadings(text []byte) (float64, error) {
	return pulseproc.Sum(text, "vm_promscrape_scraped_samples_sum")
}

func startPrometheus(ctx context.Context, _ *sitting, dir string, z size) (server, error) {
	p, config, err := newScraper(dir, z)
	if err != nil {
		return nil, err
	}
	p.numbers, p.count = "/metrics", prometheusReadings
	return p, p.start(ctx, "prometheus", "/-/ready",
		"--config.file="+config, "--storage.tsdb.path="+dir, "--web.listen-address="+p.listen)
}

// prometheusOwn is how many samples Prometheus adds to each scrape: up, scrape_duration_seconds and
// three numbers of samples.
const prometheusOwn = 5

// prometheusReadings returns how many samples came from the hosts.
func prometheusReadings(text []byte) (float64, error) {
	appended, err := pulseproc.Sum(text, "prometheus_tsdb_head_samples_appended_total", `type="float"`)
	if err != nil {
		return 0, err
	}
	scrapes, err := pulseproc.Sum(text, "prometheus_target_interval_length_seconds_count")
	return appended - prometheusOwn*scrapes, err
}

// newScraper returns a process that is to scrape each host, and its configuration.
func newScraper(dir string, z size) (p *process, config string, err error) {
	if p, err = newProcess(dir); err != nil {
		return nil, "", err
	}
	if config, err = p.scrapeConfig(z); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, config, nil
}

// scrapeConfig writes the configuration that has the server scrape each host.
func (p *process) scrapeConfig(z size) (file string, err error) {
	var release func()
	if p.hosts, release, err = freeport.Claim(); err != nil {
		return "", err
	}
	p.releases = append(p.releases, release)
	_, port, _ := strings.Cut(p.hosts, ":")
	var b bytes.Buffer
	fmt.Fprintf(&b, "global:\n  scrape_interval: %s\nscrape_configs:\n- job_name: fleet\n  static_configs:\n", z.every)
	for i := range z.hosts {
		fmt.Fprintf(&b, "  - targets: [%q]\n    labels: {instance: %s}\n", targetIP(i)+":"+port, relaytest.FleetID(i))
	}
	file = filepath.Join(p.dir, "..", "scrape.yml")
	return file, os.WriteFile(file, b.Bytes(), 0o600)
}

const influxDatabase = "fleet"

// startInfluxDB starts InfluxDB without its log of requests, and without the measurements that it
// takes of itself.
func startInfluxDB(ctx context.Context, _ *sitting, dir string, _ size) (server, error) {
	p, err := newProcess(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "..", "influxdb.conf")
	config := fmt.Sprintf("reporting-disabled = true\nbind-address = \"127.0.0.1:0\"\n[meta]\ndir = %q\n[data]\ndir = %q\nwal-dir = %q\n"+
		"[http]\nbind-address = %q\nlog-enabled = false\n[monitor]\nstore-enabled = false\n", dir+"/meta", dir+"/data", dir+"/wal", p.listen)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.stop()
		return nil, err
	}
	p.numbers, p.count = "/debug/vars", influxReadings
	if err := p.start(ctx, "influxd-1.8", "/ping", "-config", file); err != nil {
		return nil, err
	}
	_, err = p.get(ctx, "/query?"+url.Values{"q": {"CREATE DATABASE " + influxDatabase}}.Encode())
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// influxReadings returns how many points were written over HTTP.
func influxReadings(text []byte) (float64, error) {
	var vars map[string]json.RawMessage
	if err := json.Unmarshal(text, &vars); err != nil {
		return 0, err
	}
	var sum float64
	found := false
	for name, value := range vars {
		if !strings.HasPrefix(name, "httpd") {
			continue
		}
		var stats struct {
			Values struct {
				PointsWrittenOK *float64 `json:"pointsWrittenOK"`
			} `json:"values"`
		}
		if err := json.Unmarshal(value, &stats); err != nil {
			return 0, fmt.Errorf("%s of /debug/vars: %w", name, err)
		}
		if n := stats.Values.PointsWrittenOK; n != nil {
			sum, found = sum+*n, true
		}
	}
	if !found {
		return 0, fmt.Errorf("/debug/vars has no pointsWrittenOK")
	}
	return sum, nil
}
