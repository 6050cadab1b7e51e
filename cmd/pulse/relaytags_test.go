package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/relaywire/relay"
)

// TestTagsOfARelayCanBeFilteredOn checks --tags with a real server. A tag that the agent accepts
// can be used as a filter. A tag that it refuses as unusable in a filter cannot.
func TestTagsOfARelayCanBeFilteredOn(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "3600", "-l", "WARN") // the reading stays the latest
	r, err := relay.New(relay.Options{Address: s.RelayAddr, ID: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cases := map[string]bool{
		"service:web1": true, "a=b:c": true, "url:http://x": true, "caf\u00e9:\u00e9 1": true, "Host:x": true, "stat:x": true, "limit:1": true,
		"c=d": false, "host:z": false, "time:7": false, "TIME:7": false, "_name:x": false,
	}
	tags := []string{}
	for tag, ok := range cases {
		if code, _, stderr := runCommand("relay", "--check-config", "--id", "web1", "--tags", tag); (code == command.ExitOK) != ok {
			t.Errorf("%q: %s", tag, stderr)
		}
		tags = append(tags, tag)
	}
	if err := r.AddCollector("load", tags, relay.NewPointCollector(func() float64 { return 1 })); err != nil {
		t.Fatal(err)
	}
	await(t, s, "a reading", time.Minute, func() error { return s.Get("/latest/load?service=web1", new(stat)) })
	for tag, ok := range cases {
		key, value, found := strings.Cut(tag, ":")
		if !found {
			key, value, _ = strings.Cut(tag, "=")
		}
		filter := url.Values{key: {value}}.Encode()
		// Another value must find nothing, or the parameter is not a filter.
		other := url.Values{key: {value + "x"}}.Encode()
		err := s.Get("/latest/load?"+filter, new(stat))
		if err == nil && s.Get("/latest/load?"+other, new(stat)) == nil {
			err = fmt.Errorf("any value of %s finds it", key)
		}
		if (err == nil) != ok {
			t.Errorf("%q: filtering by it: %v", tag, err)
		}
	}
}
