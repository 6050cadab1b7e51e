package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
)

func TestWalk(t *testing.T) {
	w, same, other := newWalk(1, 2, 3), newWalk(1, 2, 3), newWalk(1, 3, 2)
	const n = 10_000
	repeated, different := 0, 0
	seen := make(map[float64]bool)
	last := w.next()
	if same.next() != last {
		t.Error("the same seed gives another first reading")
	}
	for range n {
		v := w.next()
		if v < 0 || v > 100 || v-last > 2.001 || last-v > 2.001 {
			t.Fatalf("%v after %v", v, last)
		}
		if s := fmt.Sprint(v); len(s) > 5 {
			t.Fatalf("%s has more than two decimals", s)
		}
		if same.next() != v {
			t.Fatal("the same seed gives other readings")
		}
		if other.next() != v {
			different++
		}
		if v == last {
			repeated++
		}
		seen[v], last = true, v
	}
	if repeated < n/5 || repeated > n*3/10 || different < n*9/10 || len(seen) < 500 {
		t.Errorf("of %d readings, %d repeat the one before, %d differ from another stat's; %d values", n, repeated, different, len(seen))
	}
}

var values = regexp.MustCompile(`(?m)(?: |=|:)([0-9.]+)(?: \d+)?$`)

// The n-th reading of each stat is the same for every kind of server.
func TestSameReadings(t *testing.T) {
	a, b, c := newHosts(7, 3, 10), newHosts(7, 3, 10), newHosts(7, 3, 10)
	for n := range 5 {
		for i := range a {
			scraped := values.FindAllStringSubmatch(string(exposition(nil, a[i], i)), -1)
			pushed := values.FindAllStringSubmatch(string(appendLines(nil, b[i], i, time.Unix(1795416970, 0))), -1)
			if len(scraped) != 10 || len(pushed) != 10 {
				t.Fatalf("%q, %q", scraped, pushed)
			}
			for stat := range c[i] {
				if v := fmt.Sprint(c[i][stat].next()); scraped[stat][1] != v || pushed[stat][1] != v {
					t.Fatalf("reading %d of stat %d of host %d: %s scraped, %s pushed, %s polled", n, stat, i, scraped[stat][1], pushed[stat][1], v)
				}
			}
		}
	}
}

func TestFormats(t *testing.T) {
	h := newHosts(1, 1, 2)[0]
	if text := string(exposition(nil, h, 12)); !regexp.MustCompile(`^stat_0\{service="web2"\} [0-9.]+\nstat_1\{service="web2"\} [0-9.]+\n$`).MatchString(text) {
		t.Errorf("%q", text)
	}
	text := string(appendLines(nil, h, 12, time.Unix(1795416970, 0)))
	if !regexp.MustCompile(`^stat_0,host=relay-00012,service=web2 stat_0=[0-9.]+ 1795416970000000000\nstat_1,.*\n$`).MatchString(text) {
		t.Errorf("%q", text)
	}
}

// play runs a fleet until the test ends, and fails the test if the fleet meets an error.
func play(t *testing.T, f *fleet) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- f.play(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTargets(t *testing.T) {
	address := freeport.Of(t)
	play(t, &fleet{Kind: targets, Address: address, Hosts: 300, Stats: 10, Seed: 1})
	_, port, _ := net.SplitHostPort(address)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(ip, path string) (int, string) {
		answer, err := client.Get("http://" + ip + ":" + port + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	want := newHosts(1, 300, 10)
	for _, i := range []int{0, 1, 255, 256, 299} {
		for range 2 {
			if status, text := get(targetIP(i), "/metrics"); status != http.StatusOK || text != string(exposition(nil, want[i], i)) {
				t.Errorf("host %d: %d %s", i, status, text)
			}
		}
	}
	for _, ip := range []string{targetIP(300), "127.0.0.1"} {
		if status, text := get(ip, "/metrics"); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", ip, status, text)
		}
	}
	if status, text := get(targetIP(0), "/"); status != http.StatusNotFound {
		t.Errorf("/: %d %s", status, text)
	}
	for i := 0; i < maxHosts; i += 997 {
		if got := targetHost(net.ParseIP(targetIP(i))); got != i {
			t.Errorf("host %d has the address of host %d", i, got)
		}
	}
}

// Each host sends its own readings in one request every interval, with a time of their own.
func TestPoints(t *testing.T) {
	address := freeport.Of(t)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	bodies := make(chan string, 100)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		w.WriteHeader(http.StatusNoContent)
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	play(t, &fleet{Kind: points, Address: address, Hosts: 3, Stats: 10, Every: time.Second, Seed: 1})
	times := map[string]map[string]bool{} // by host
	for done := 0; done < 3; {
		body := <-bodies
		found := regexp.MustCompile(`,host=(\S+),\S+ \S+ (\d+)\n`).FindAllStringSubmatch(body, -1)
		if len(found) != 10 {
			t.Fatalf("%q", body)
		}
		name, at := found[0][1], found[0][2]
		if times[name] == nil {
			times[name] = map[string]bool{}
		}
		if times[name][at] {
			t.Errorf("%s has two readings of %s", name, at)
		}
		if times[name][at] = true; len(times[name]) == 2 {
			done++
		}
	}
}

func TestPointsRefused(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	f := &fleet{Kind: points, Address: freeport.Of(t), Hosts: 1, Stats: 1, Every: time.Minute}
	if err := f.play(ctx, func() {}); err == nil || !strings.HasPrefix(err.Error(), "1 requests failed, the first:") {
		t.Errorf("the error is %v", err)
	}
}

// The fleet's process says when it is ready, and ends when it is told to.
func TestFleetProcess(t *testing.T) {
	address := freeport.Of(t)
	f := &fleet{Kind: targets, Address: address, Hosts: 5, Stats: 10}
	p, err := f.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	f.Kind = relays // nobody listens
	if p, err := f.start(t.Context()); err == nil {
		t.Error("relays without a server are ready", p.stop())
	}
}

func TestContenders(t *testing.T) {
	var names []string
	for _, c := range contenders {
		if slices.Contains(names, c.name) || c.title == "" || c.start == nil {
			t.Errorf("%+v", c)
		}
		names = append(names, c.name)
	}
}
