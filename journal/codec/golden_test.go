package codec

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"
)

// goldenEvents are the events whose bytes are kept in testdata for ever: what a version wrote must
// stay readable, and the newest version must always write exactly these bytes.
var goldenEvents = map[string]*Event{
	"simple": {Relay: "web1", Time: 1795416970017829163, Collectors: []Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []Stat{{"used", 0.25}, {"idle", 0.75}}}}},
	"sample":  sample("web-1", 7),
	"singles": singles("relay-00042", 7),
	"groups": {Relay: "r", Time: 1, Collectors: []Collector{
		{"a", []string{"x"}, []Stat{{"a", 1}}}, {"b", []string{"x"}, []Stat{{"a", 2}}}, {"c", nil, []Stat{{"c", 3}, {"d", 4}}}, {"d", nil, nil},
		{"e", []string{"x"}, []Stat{{"e", 5}}}, {"e", []string{"x"}, []Stat{{"e", 6}}}, {"", []string{"x", "y"}, []Stat{{"", 7}}}}},
	"took": {Relay: "web1", Time: 1795416970017829163, Spool: Spool{0x5f2a00c1, 44, 45}, Collectors: []Collector{{"load", nil, []Stat{{"load", 1.5}}}}},
	"past": {Relay: "web1", Time: 1795416970017000000, Spool: Spool{math.MaxUint32, 42, math.MaxInt64}, Past: true,
		Collectors: []Collector{{"cpu", []string{"guy"}, []Stat{{"used", 0.25}}}}},
	"edge": {Relay: "web1", Time: 1795416970017829163, Edge: "ams1", Origin: 8000, Spool: Spool{0x5f2a00c1, 44, 45}, Past: true,
		Collectors: []Collector{{"load", nil, []Stat{{"load", 1.5}}}}},
	"empty": {Relay: "r", Time: -1, Collectors: nil},
	"strange": {Relay: "a \"b\" \\ \x01 é 世界 \u2028", Time: math.MaxInt64, Collectors: []Collector{
		{Name: "no stats", Tags: nil, Stats: nil},
		{Name: "numbers", Tags: []string{"", "k:v:w"}, Stats: []Stat{{"zero", 0}, {"negative zero", math.Copysign(0, -1)}, {"tenth", 0.1},
			{"third", 1.0 / 3}, {"tiny", 5e-324}, {"huge", math.MaxFloat64}, {"million", 1e6}, {"e21", 1e21}, {"e20", 1e20}, {"e-7", 1e-7},
			{"four", 1234.5678}, {"five", 1.00001}, {"negative", -73.5}, {"2^53+1", 1<<53 + 1}, {"same", 1}, {"same", 2}}},
	}},
}

var goldenRelayEvents = map[string]*RelayEvent{
	"connected":    {Relay: "web1", Time: 1795416970017829163, Kind: RelayConnected, Addr: "10.0.0.7:4711"},
	"disconnected": {Relay: "web1", Time: 1795416970017829163, Kind: RelayDisconnected, Reason: "nothing read for 60s"},
	"added":        {Relay: "web1", Time: 1795416970017829163, Kind: RelayAdded, Collector: "cpu", Tags: []string{"service:web1", "guy"}},
	"removed":      {Relay: "web1", Time: 1795416970017829163, Kind: RelayRemoved, Collector: "cpu"},
	"edge":         {Relay: "web1", Time: 1795416970017829163, Edge: "ams1", Origin: 8001, Kind: RelayConnected, Addr: "10.0.0.7:4711"},
	"override":     {Relay: "web1", Time: 1795416970017829163, Kind: RelayOverride, Collector: "cpu", Duration: time.Minute, Interval: 1500 * time.Millisecond},
}

// sample is an event of ten readings, as relays send them.
func sample(relay string, n int) *Event {
	v := float64(n)
	return &Event{Relay: relay, Time: 1795416970017829163 + int64(n), Collectors: []Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []Stat{{"cpu_used", v}, {"cpu_idle", 99.75}, {"cpu_wait", 0.0312}, {"cpu_steal", 0}}},
		{Name: "ram", Tags: []string{"service:web1"}, Stats: []Stat{{"ram_used", 73.5211}, {"ram_free", 26.4789}, {"ram_total", 16777216}}},
		{Name: "disk", Tags: []string{"mount:/"}, Stats: []Stat{{"disk_used", 41.2}, {"disk_free", 58.8}, {"disk_inodes", 1.5}}},
	}}
}

// singles is an event of ten readings as relays of Pulse 0.2 send them: a collector for each stat.
func singles(relay string, n int) *Event {
	e := &Event{Relay: relay, Time: 1795416970017829163 + int64(n)}
	for i := range 10 {
		name := "stat_" + strconv.Itoa(i)
		e.Collectors = append(e.Collectors, Collector{name, []string{"service:web" + strconv.Itoa(n)}, []Stat{{name, float64(n%100) + 0.0042}}})
	}
	return e
}

func TestGolden(t *testing.T) {
	for name, e := range goldenEvents {
		data, err := EncodeEvent(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "v2/event-"+name, data)
		forms := [][]byte{data}
		if e.Spool == (Spool{}) { // version 1 is older than spools
			old := encodeVersion1(nil, e)
			golden(t, "v1/event-"+name, old)
			forms = append(forms, old)
		}
		for _, data := range forms {
			var got Event
			if err := new(Decoder).DecodeEvent(data, &got); err != nil || !sameEvent(&got, e) {
				t.Errorf("%s: read back %+v, %v", data, got, err)
			}
		}
	}
	for name, e := range goldenRelayEvents {
		data := EncodeRelayEvent(nil, e)
		golden(t, "v1/relay-"+name, data)
		var got RelayEvent
		if err := new(Decoder).DecodeRelayEvent(data, &got); err != nil || !sameRelayEvent(&got, e) {
			t.Errorf("%s: read back %+v, %v", name, got, err)
		}
	}
}

// golden compares data with a file. It writes the file only if PULSE_GOLDEN=new and the file does
// not exist.
func golden(t *testing.T, name string, data []byte) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(name)+".json")
	want, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("PULSE_GOLDEN") == "new" {
		err = os.WriteFile(file, data, 0o644)
		want = data
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is written as\n%s\nand must be\n%s", name, data, want)
	}
}

// encodeVersion1 appends what EncodeEvent wrote before version 2.
func encodeVersion1(dst []byte, e *Event) []byte {
	dst = append(dst, `{"v":1,"relay":`...)
	dst = appendString(dst, e.Relay)
	dst = append(dst, `,"time":`...)
	dst = strconv.AppendInt(dst, e.Time, 10)
	dst = append(dst, `,"collectors":[`...)
	for i := range e.Collectors {
		c := &e.Collectors[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendString(dst, c.Name)
		dst = append(dst, `,"tags":`...)
		dst = appendStrings(dst, c.Tags)
		dst = append(dst, `,"stats":{`...)
		for k, s := range c.Stats {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, s.ID)
			dst = append(dst, ':')
			dst = appendFloat(dst, s.Value)
		}
		dst = append(dst, '}', '}')
	}
	return append(dst, ']', '}')
}

func sameEvent(a, b *Event) bool {
	if a.Edge != b.Edge || a.Origin != b.Origin || a.Spool != b.Spool || a.Past != b.Past || a.Relay != b.Relay || a.Time != b.Time || len(a.Collectors) != len(b.Collectors) {
		return false
	}
	for i := range a.Collectors {
		x, y := &a.Collectors[i], &b.Collectors[i]
		if x.Name != y.Name || len(x.Tags) != len(y.Tags) || len(x.Stats) != len(y.Stats) {
			return false
		}
		for k := range x.Tags {
			if x.Tags[k] != y.Tags[k] {
				return false
			}
		}
		for k := range x.Stats {
			if x.Stats[k].ID != y.Stats[k].ID || math.Float64bits(x.Stats[k].Value) != math.Float64bits(y.Stats[k].Value) {
				return false
			}
		}
	}
	return true
}

func sameRelayEvent(a, b *RelayEvent) bool {
	x, y := *a, *b
	if len(x.Tags) == 0 {
		x.Tags = nil
	}
	if len(y.Tags) == 0 {
		y.Tags = nil
	}
	return reflect.DeepEqual(x, y)
}
