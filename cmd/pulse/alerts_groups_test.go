package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/pulseproc"
)

// playGroups plays two alerts on two relays: one by the host, and one by the host and a tag. Each
// post names its group.
func playGroups(t *testing.T, s *pulseproc.Server, r *receiver) error {
	const metric = "grouped"
	relays := make(map[string]*steadyRelay)
	for _, id := range []string{"group1", "it's {{ group }} 2"} {
		relay, err := connectSteady(t, s.RelayAddr, id, "disk:"+id+" a", "disk:"+id+" b")
		if err != nil {
			return err
		}
		relays[id] = relay
	}
	one, two := relays["group1"], relays["it's {{ group }} 2"]
	for path, by := range map[string][]string{"by-host": {"host"}, "by-disk": {"host", "disk"}} {
		fields := map[string]any{"metric": metric, "threshold": 80, "duration": "1s", "every": "1s", "by": by, "post": r.url(path)}
		if _, err := putAlert(s, http.MethodPost, fields); err != nil {
			return err
		}
	}
	expect := func(post string, host string, disks ...string) error {
		got, err := r.next("by-host")
		if want := wantedGroupPost("["+host+"] "+metric, map[string]string{"host": host}, metric, metric, post); err != nil || got != want {
			return fmt.Errorf("%v: posted\n%s\nwanted\n%s", err, got, want)
		}
		var wanted, posted []string // in any order: they change at the same moment
		for _, disk := range disks {
			id := fmt.Sprintf("[%s,disk:%s %s] %s", host, host, disk, metric)
			wanted = append(wanted, wantedGroupPost(id, map[string]string{"host": host, "disk": host + " " + disk}, metric, metric, post))
			one, err := r.next("by-disk")
			if err != nil {
				return err
			}
			posted = append(posted, one)
		}
		slices.Sort(posted)
		slices.Sort(wanted)
		if !slices.Equal(posted, wanted) {
			return fmt.Errorf("posted\n%s\nwanted\n%s", posted, wanted)
		}
		return nil
	}
	change := func(relay *steadyRelay, values string) error {
		if err := relay.hush(); err != nil {
			return err
		}
		time.Sleep(alertSilence) // the silence is part of the case
		relay.say(readings(metric, values))
		return nil
	}
	two.say(readings(metric, "10 10"))
	if err := errors.Join(change(one, "90 90"), expect("OK CRITICAL 90", "group1", "a", "b")); err != nil {
		return err
	}
	if err := errors.Join(change(two, "85 85"), expect("OK CRITICAL 85", "it's {{ group }} 2", "a", "b")); err != nil {
		return err
	}
	if err := errors.Join(change(one, "10 10"), expect("CRITICAL OK 10", "group1", "a", "b")); err != nil {
		return err
	}
	time.Sleep(alertHold)
	if more := append(r.rest("by-host"), r.rest("by-disk")...); len(more) > 0 {
		return fmt.Errorf("posted besides: %s", more)
	}
	return nil
}

// TestAlertsOfHostsThatGo stops agents of a fleet under one deadman, cleanly or not. Each host is
// posted separately. When a host is forgotten, its alert ends, and the receiver is notified.
func TestAlertsOfHostsThatGo(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "1", "-l", "WARN")
	r := startReceiver(t)
	agent := func(id string) func(os.Signal) {
		c, _ := asPulse(t, "relay", "--server", s.RelayAddr, "--id", id)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return func(signal os.Signal) {
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // it may have ended by a signal
		}
	}
	stops := map[string]func(os.Signal){}
	for _, id := range []string{"web1", "web2", "web3"} {
		stops[id] = agent(id)
	}
	id, err := putAlert(s, http.MethodPost, map[string]any{"metric": "ram_used", "threshold": 1e18, "every": "1s", "duration": "1s", "deadman": "10s", "post": r.url("dead")})
	if err != nil {
		t.Fatal(err)
	}
	type view struct {
		By      []string
		Warning string
		Status  struct {
			Level         string
			Undelivered   int
			GroupsWatched int `json:"groups_watched"`
			Groups        []struct {
				Tags   map[string]string
				Silent []string
			}
		}
	}
	get := func() (v view) {
		t.Helper()
		if err := callAPI(s, http.MethodGet, "/alerts/"+id, nil, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	await(t, s, "the three hosts", time.Minute, func() error {
		if v := get(); v.Status.GroupsWatched != 3 {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	expect := func(host, post string) {
		t.Helper()
		got, err := r.next("dead")
		if want := wantedGroupPost("["+host+"] ram_used", map[string]string{"host": host}, "ram_used", "ram_used", post); err != nil || got != want {
			t.Fatalf("%v: posted\n%s\nwanted\n%s", err, got, want)
		}
	}
	stops["web1"](os.Interrupt) // a clean stop: it removes its collectors
	expect("web1", "OK CRITICAL none for 10s from web1")
	stops["web2"](os.Kill)
	expect("web2", "OK CRITICAL none for 10s from web2")
	if v := get(); v.Status.Level != "CRITICAL" || len(v.By) != 1 || len(v.Status.Groups) != 2 || v.Status.Groups[0].Tags["host"] != "web1" ||
		len(v.Status.Groups[1].Silent) != 1 || v.Status.Groups[1].Silent[0] != "web2" {
		t.Errorf("%+v", v)
	}
	pulse(t, command.ExitOK, "relays", "forget", "--api", s.HTTPAddr, "web1")
	expect("web1", "CRITICAL OK none, web1 was forgotten")
	await(t, s, "that no post comes again", time.Minute, func() error {
		if n := get().Status.Undelivered; n > 0 {
			return fmt.Errorf("%d posts are under way", n)
		}
		return nil
	})
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "web2 alone is missed", time.Minute, func() error {
		if v := get(); v.Status.GroupsWatched != 2 || len(v.Status.Groups) != 1 || v.Status.Groups[0].Tags["host"] != "web2" {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	again := agent("web2")
	got, err := r.next("dead")
	if err != nil || !strings.Contains(got, `"id":"[web2] ram_used"`) || !strings.Contains(got, `"level":"OK"`) {
		t.Errorf("%v %s", err, got)
	}
	again(os.Kill)
	stops["web3"](os.Kill)
}
