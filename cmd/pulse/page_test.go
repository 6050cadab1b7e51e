package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/query/console"
	"github.com/nanopack/pulse/relaywire/relay"
)

// Tokens of the pages' servers.
const pageToken, pageReadToken = "token-of-the-page", "token-that-reads"

// A pageScenario is a part of query/console/test/page.mjs, which drives the page in a browser.
type pageScenario struct {
	name string
	// hosts are the relays that send cpu_used and others to the server.
	hosts []pageHost
	// past is how long they have been sending already.
	past time.Duration
	// influx is whether the server writes to an InfluxDB of its own, behind a proxy.
	influx bool
	do     map[string]func(*pageWorld)
}

type pageHost struct {
	id   string
	tags []string
	stat string // one more
	unit string // of stat
}

// pageWorld is what a scenario may act on.
type pageWorld struct {
	t      *testing.T
	server *pulseproc.Server
	ill    *ill
	relays []*relay.Relay
}

func (w *pageWorld) close(r *relay.Relay) {
	if err := r.Close(); err != nil {
		w.t.Error(err)
	}
}

// TestPage plays what people do with the page at /, in Chromium.
func TestPage(t *testing.T) {
	t.Parallel()
	if !console.New().Complete() {
		t.Fatal("the binary holds no page: run `make page` first")
	}
	if _, err := os.Stat("../../query/console/node_modules/playwright-core"); err != nil {
		t.Fatalf("run `make page` first: %v", err)
	}
	two := []pageHost{{id: "web1", tags: []string{"service:web"}}, {id: "web2", tags: []string{"service:shop"}}}
	for _, scenario := range []pageScenario{
		{name: "tokens", hosts: two},
		{name: "views", hosts: several(), past: time.Hour},
		{name: "zoom", hosts: two, past: time.Hour},
		{name: "alert", hosts: two, past: 10 * time.Minute, do: map[string]func(*pageWorld){
			"silence": func(w *pageWorld) { w.close(w.relays[1]) }}},
		{name: "large"},
		{name: "edges"},
		{name: "edgehosts"},
		{name: "manyedges"},
		{name: "edgecontrol"},
		{name: "uplink"},
		{name: "hostile", hosts: []pageHost{{id: "<svg/onload=window.hit=1>", tags: []string{"rack:<img/src=x/onerror=window.hit=1>"}, stat: "<img/src=x/onerror=window.hit=1>"}}},
		{name: "units", hosts: []pageHost{{id: "web1", stat: "room_temp", unit: "celsius"}, {id: "odd", stat: "odd", unit: "<img src=x onerror=window.hit=1>"}}},
		{name: "restart", hosts: two, do: map[string]func(*pageWorld){
			"kill":  func(w *pageWorld) { w.server.Kill() },
			"start": func(w *pageWorld) { w.start() }}},
		{name: "outage", hosts: two, influx: true, do: map[string]func(*pageWorld){
			"away": func(w *pageWorld) { w.ill.proxy.Set(testtools.Refuse) },
			"back": func(w *pageWorld) { w.ill.proxy.Set(testtools.Healthy) }}},
		{name: "replay", hosts: two, past: 10 * time.Minute, influx: true, do: map[string]func(*pageWorld){
			"hole": func(w *pageWorld) { w.ill.exec("DELETE WHERE time < now()") }}},
	} {
		t.Run(scenario.name, func(t *testing.T) { playPage(t, scenario) })
	}
}

// several are hosts as a small company has them.
func several() (hosts []pageHost) {
	for service, n := range map[string]int{"web": 4, "shop": 3, "db": 2} {
		for i := range n {
			hosts = append(hosts, pageHost{id: fmt.Sprint(service, i+1), tags: []string{"service:" + service}})
		}
	}
	return hosts
}

// values are what a host reports at a moment.
func (h pageHost) values(at time.Time) map[string]float64 {
	wave := func(mean, swing float64, period time.Duration) float64 {
		phase := float64(len(h.id)) + float64(h.id[len(h.id)-1])
		return math.Round(100*(mean+swing*math.Sin(phase+2*math.Pi*at.Sub(time.Unix(0, 0)).Seconds()/period.Seconds()))) / 100
	}
	values := map[string]float64{"cpu_used": wave(40, 20, 20*time.Minute) + wave(5, 5, 41*time.Second), "cpu_user": wave(30, 20, 20*time.Minute), "ram_used": wave(60, 5, 30*time.Minute),
		"disk_used": wave(71, 0.5, 2*time.Hour), "load_1": wave(2, 1, 15*time.Minute), "net_in": wave(2e6, 1e6, 7*time.Minute), "net_out": wave(4e5, 2e5, 9*time.Minute)}
	if h.stat != "" {
		values[h.stat] = 1
	}
	return values
}

// fillPast makes a journal of the past of hosts, as if they had been polled every ten seconds.
func fillPast(t *testing.T, dataDir string, hosts []pageHost, past time.Duration) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dataDir, "journal"), Sync: journal.SyncEvery(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for at := now.Add(-past).Truncate(10 * time.Second); at.Before(now); at = at.Add(10 * time.Second) {
		for _, h := range hosts {
			var stats []codec.Stat
			for id, v := range h.values(at) {
				stats = append(stats, codec.Stat{ID: id, Value: v})
			}
			if _, err := j.Append(t.Context(), &codec.Event{Relay: h.id, Time: at.UnixNano(), Collectors: []codec.Collector{{Name: "host", Tags: h.tags, Stats: stats}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *pageWorld) start() {
	w.t.Helper()
	if err := w.server.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func playPage(t *testing.T, scenario pageScenario) {
	w := &pageWorld{t: t}
	influx := "embedded"
	if scenario.influx {
		w.ill = &ill{t: t, db: testtools.StartInfluxd(t, testtools.InfluxDB18)}
		w.ill.proxy = testtools.StartProxy(t, w.ill.db.Addr)
		influx = w.ill.proxy.Addr
	}
	dir := filepath.Join(t.TempDir(), "data")
	if scenario.past > 0 {
		fillPast(t, dir, scenario.hosts, scenario.past)
	}
	w.server = serverOf(t, pulseproc.Options{DataDir: dir, Token: pageToken,
		Args: []string{"--influx-address", influx, "-p", "1", "-a", "1", "--token", pageToken, "--read-token", pageReadToken, "--nats-listen-address", ""}})
	w.start()
	for _, h := range scenario.hosts {
		w.relays = append(w.relays, w.connect(h))
	}
	if len(scenario.hosts) > 0 {
		await(t, w.server, "readings", time.Minute, func() error {
			n, err := w.server.Metric("pulse_ingest_readings_total")
			if err == nil && n < 10*float64(len(scenario.hosts)) {
				err = fmt.Errorf("%v readings", n)
			}
			return err
		})
	}
	shots := os.Getenv("SCREENSHOTS") // kept if it is set
	if shots == "" {
		shots = t.TempDir()
	}
	w.drive(scenario, shots)
}

// connect starts a relay that reports cpu_used and others.
func (w *pageWorld) connect(h pageHost) *relay.Relay {
	w.t.Helper()
	r, err := relay.New(relay.Options{Address: w.server.RelayAddr, ID: h.id})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.close(r) })
	stats := func() map[string]float64 { return h.values(time.Now()) }
	unit := func(stat string) string {
		if stat == h.stat {
			return h.unit
		}
		return ""
	}
	if err := r.AddCollector("host", h.tags, relay.WithUnits(relay.NewSetCollector(stats), unit)); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// drive runs a scenario of page.mjs, and does what it asks for.
func (w *pageWorld) drive(scenario pageScenario, shots string) {
	t := w.t
	node := exec.CommandContext(t.Context(), "node", "test/page.mjs", scenario.name, "http://"+w.server.HTTPAddr, pageToken, pageReadToken, shots)
	node.Dir = "../../query/console"
	node.Stderr = t.Output()
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, asked := strings.CutPrefix(lines.Text(), "do ")
		if !asked {
			t.Log(lines.Text())
			continue
		}
		if do := scenario.do[what]; do != nil {
			do(w)
			fmt.Fprintln(in, "done") // if it has ended, Wait says why
			continue
		}
		t.Errorf("the page's test asks for %q", what)
		fmt.Fprintln(in, "nobody knows how to")
	}
	if err := node.Wait(); err != nil {
		t.Errorf("%s: %v", scenario.name, err)
	}
}
