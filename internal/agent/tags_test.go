package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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
		got, err := readTags(c.list)
		if !slices.Equal(got, c.want) || (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.60q: %q, %v; want %q, %q", c.list, got, err, c.want, c.why)
		}
		if err != nil && len(err.Error()) > 250 {
			t.Errorf("%.60q: a refusal of %d bytes", c.list, len(err.Error()))
		}
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
		if got := strings.Join(Warnings(id, []string{"a:b"}), "|"); strings.Contains(got, "--id") != warned {
			t.Errorf("%s: %q", id, got)
		}
	}
	if got := Warnings("web1", []string{"a:b", "guy"}); len(got) != 1 || !strings.Contains(got[0], `"guy"`) {
		t.Errorf("a bare word: %q", got)
	}
}
