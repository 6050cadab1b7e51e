package mist

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nanopack/pulse/journal/codec"
)

// line encodes one reading.
func line(relay string, c *codec.Collector, stat string, value float64) []byte {
	return appendMessage(nil, &message{prefix: linePrefix(collectorTags(codec.RelayKey{Relay: relay}, c.Tags), stat), value: value}, shortest)
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		relay, stat string
		tags        []string
		value       float64
		want        string
	}{
		{"host0", "stat_0", []string{"service:web1"}, 0.763, `{"command":"publish","tags":["host:host0","metrics","service:web1","stat_0"],"data":"0.763"}`},
		{"host0", "cpu", nil, -2, `{"command":"publish","tags":["cpu","host:host0","metrics"],"data":"-2"}`},
		{"h", "cpu", []string{"host:other", "cpu", "metrics", "zz", "", "zz"}, 1e21, `{"command":"publish","tags":["cpu","host:h","metrics","zz"],"data":"1000000000000000000000"}`},
		{"h\"\\\n", "a\x00\x7f", []string{"</script>é\u2028"}, 1e-7, `{"command":"publish","tags":["\u003c/script>é` + "\u2028" + `","a\u0000\u007f","host:h\"\\\u000a","metrics"],"data":"0.0000001"}`},
		{"\xff\xfe", "\xc3", []string{"k:\xed\xa0\x80v"}, 0.1, `{"command":"publish","tags":["host:` + "\ufffd" + `","k:` + "\ufffd" + `v","metrics","` + "\ufffd" + `"],"data":"0.1"}`},
	} {
		got := line(tt.relay, &codec.Collector{Tags: tt.tags}, tt.stat, tt.value)
		if want := strings.ReplaceAll(tt.want, `\u003c`, "<") + "\n"; string(got) != want {
			t.Errorf("%q\n got %s want %s", tt.relay, got, want)
		}
	}
	if got, want := string(authLine("a\"b")), `{"command":"auth","tags":null,"data":"a\"b"}`+"\n"; got != want {
		t.Errorf("auth is %s want %s", got, want)
	}
}

func TestLinesOfEdges(t *testing.T) {
	for edge, want := range map[string]string{"": `"edge:mine","host:h","metrics"`, "ams1": `"edge:ams1","host:h","metrics"`} {
		e := &codec.Event{Edge: edge, Relay: "h", Collectors: []codec.Collector{{Tags: []string{"edge:mine"}, Stats: []codec.Stat{{ID: "cpu"}}}}}
		if got := newTopics().appendMessages(nil, e)[0].prefix; got != `{"command":"publish","tags":["cpu",`+want+`],"data":"` {
			t.Errorf("of edge %q: %s", edge, got)
		}
	}
}

// FuzzLine checks, for any names, that the text is one line and decodes to the same tags and the
// same value.
func FuzzLine(f *testing.F) {
	f.Add("host0", "stat_0", "service:web1\x1fguy", 0.763)
	f.Add("", "", "", math.SmallestNonzeroFloat64)
	f.Add("a\nb\"\\", "\x00\x1b\x7f", "{\"command\":\"auth\"}\x1f\r\n", math.MaxFloat64)
	f.Add("\xff", "\xed\xa0\x80", "\xc3\x28\x1f\u2028\U0010ffff\ufffd", math.Copysign(0, -1))
	f.Fuzz(func(t *testing.T, relay, stat, sent string, value float64) {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return // the journal holds no such values
		}
		c := &codec.Collector{Tags: strings.Split(sent, "\x1f")}
		got := line(relay, c, stat, value)
		if bytes.Count(got, []byte{'\n'}) != 1 || got[len(got)-1] != '\n' || !utf8.Valid(got) {
			t.Fatalf("%q is not one line of text", got)
		}
		var msg struct {
			Command string
			Tags    []string
			Data    string
		}
		d := json.NewDecoder(bytes.NewReader(got))
		d.DisallowUnknownFields()
		if err := d.Decode(&msg); err != nil || msg.Command != "publish" {
			t.Fatalf("%q: %v", got, err)
		}
		want := map[string]bool{}
		for _, tag := range append([]string{"host:" + relay, "metrics", stat}, c.Tags...) {
			if tag != "" && (!strings.HasPrefix(tag, "host:") || tag == "host:"+relay || tag == stat) {
				want[strings.ToValidUTF8(tag, "\ufffd")] = true
			}
		}
		for _, tag := range msg.Tags {
			if !want[tag] {
				t.Fatalf("%q was not asked for in %q", tag, got)
			}
		}
		if len(msg.Tags) != len(want) || !slices.IsSorted(msg.Tags) {
			t.Fatalf("the tags are %q, want %v", msg.Tags, want)
		}
		if back, err := strconv.ParseFloat(msg.Data, 64); err != nil || math.Float64bits(back) != math.Float64bits(value) {
			t.Fatalf("%v became %s", value, msg.Data)
		}
		if strings.ContainsAny(msg.Data, "eE+") {
			t.Fatalf("%s has an exponent", msg.Data)
		}
	})
}
