package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

func TestRelayTags(t *testing.T) {
	for _, c := range []struct {
		list string
		want []string
		why  string // a part of the error
	}{
		{"service:web1,rack:7", []string{"service:web1", "rack:7"}, ""},
		{" service:web1 , rack:7,, rack:7 ", []string{"service:web1", "rack:7"}, ""},
		{"", nil, ""},
		{"guy,url:http://x", []string{"guy", "url:http://x"}, ""},
		{"a=b:c", []string{"a=b:c"}, ""},
		{"a=b", nil, `write "a:b"`},
		{"a:b,host:z", nil, "write --id z"},
		{":b", nil, "both sides"},
		{"a:", nil, "both sides"},
		{"time:7", nil, "InfluxDB reserves"},
		{"Time:7", nil, "InfluxDB reserves"},
		{"now():7", nil, "InfluxDB reserves"},
		{"start:1h", nil, "parameter of queries"},
		{"verb:x", nil, "parameter of queries"},
		{"mount:/", nil, "of their own"},
		{"interface:eth0", nil, "of their own"},
		{"rack:7,rack:8", nil, "only the first"},
		{"a:b\x01", nil, "control characters"},
		{"a:b\u0085c", nil, "control characters"},
		{strings.Repeat("k", 300) + ":v", nil, "at most 256"},
		{strings.Repeat("k:", 300), nil, "at most 512"},
		{many(64), nil, "may have 63"},
	} {
		got, err := relayTags(c.list)
		if !slices.Equal(got, c.want) || (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.60q: %q, %v; want %q, %q", c.list, got, err, c.want, c.why)
		}
		if err != nil && len(err.Error()) > 250 {
			t.Errorf("%.60q: a refusal of %d bytes", c.list, len(err.Error()))
		}
	}
	if code, _, text := runCommand("relay", "--tags", "a=b"); code == exitOK || code == exitFailure || !strings.Contains(text, "--tags") {
		t.Errorf("%d %q", code, text)
	}
}

func many(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("k%d:v", i))
	}
	return strings.Join(list, ",")
}

func TestRelayWarnings(t *testing.T) {
	for id, warned := range map[string]bool{
		"localhost": true, "localhost.localdomain": true, "LocalHost": true, "ip6-localhost": true, "web1": false, "localhost-7": false, "mylocalhost": false,
	} {
		var b strings.Builder
		warnOfRelay(id, []string{"a:b"}, slog.New(slog.NewTextHandler(&b, nil)))
		if strings.Contains(b.String(), "--id") != warned {
			t.Errorf("%s: %q", id, b.String())
		}
	}
	var b strings.Builder
	warnOfRelay("web1", []string{"a:b", "guy"}, slog.New(slog.NewTextHandler(&b, nil)))
	if strings.Count(b.String(), "level=WARN") != 1 || !strings.Contains(b.String(), "tag=guy") {
		t.Errorf("a bare word: %q", b.String())
	}
}

// TestTagsOfARelayCanBeFilteredOn checks relayTags with a real server. A tag that relayTags accepts
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
		if _, err := relayTags(tag); (err == nil) != ok {
			t.Errorf("%q: %v", tag, err)
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
