package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// goldenEvents are the events whose bytes are kept in testdata for ever: a released version's
// events must stay readable, and version 1 must always write exactly these bytes.
var goldenEvents = map[string]*Event{
	"simple": {Relay: "web1", Time: 1795416970017829163, Collectors: []Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []Stat{{"used", 0.25}, {"idle", 0.75}}}}},
	"sample": sample("web-1", 7),
	"empty":  {Relay: "r", Time: -1, Collectors: nil},
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

func TestGolden(t *testing.T) {
	for name, e := range goldenEvents {
		data, err := EncodeEvent(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "event-"+name, data)
		var got Event
		if err := new(Decoder).DecodeEvent(data, &got); err != nil || !sameEvent(&got, e) {
			t.Errorf("%s: read back %+v, %v", name, got, err)
		}
	}
	for name, e := range goldenRelayEvents {
		data := EncodeRelayEvent(nil, e)
		golden(t, "relay-"+name, data)
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
	file := filepath.Join("testdata", "v1", name+".json")
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

func sameEvent(a, b *Event) bool {
	if a.Relay != b.Relay || a.Time != b.Time || len(a.Collectors) != len(b.Collectors) {
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

// jsonEvent is the schema for encoding/json. Its stats have a type of their own, which keeps their
// order.
type jsonEvent struct {
	V          *int64          `json:"v"`
	Relay      string          `json:"relay"`
	Time       int64           `json:"time"`
	Collectors []jsonCollector `json:"collectors"`
}

type jsonCollector struct {
	Name  string    `json:"name"`
	Tags  []string  `json:"tags"`
	Stats jsonStats `json:"stats"`
}

type jsonStats []Stat

func (s *jsonStats) UnmarshalJSON(data []byte) error {
	*s = nil
	d := json.NewDecoder(bytes.NewReader(data))
	t, err := d.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return errors.New("not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var v *float64
		if err := d.Decode(&v); err != nil {
			return err
		}
		if v != nil {
			*s = append(*s, Stat{key.(string), *v})
		}
	}
	return nil
}

// decodeJSON is the reference: encoding/json, and a check of the version.
func decodeJSON(data []byte) (*Event, error) {
	var j jsonEvent
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, err
	}
	if j.V != nil && *j.V != Version {
		return nil, errors.New("version")
	}
	e := &Event{Relay: j.Relay, Time: j.Time}
	for _, c := range j.Collectors {
		e.Collectors = append(e.Collectors, Collector{c.Name, c.Tags, c.Stats})
	}
	return e, nil
}

var decodeCases = []string{
	`{"v":1,"relay":"web1","time":1795416970017829163,"collectors":[{"name":"cpu","tags":["service:web1","guy"],"stats":{"used":0.25,"idle":0.75}}]}`,
	` { "collectors" : [ { "stats" : { "a" : 1e3 , "b":-0.5E-2 } , "tags" : [ ] , "name" : "x" } ] , "time" : -5 , "relay" : "r" , "v" : 1 } ` + "\r\n\t",
	`{"V":1,"RELAY":"r","Time":0,"Collectors":null}`,
	`{"relay":null,"time":null,"v":null,"collectors":[null,{"name":null,"tags":null,"stats":null},{"tags":[null,"x"],"stats":{"n":null,"m":1}}]}`,
	`{"relay":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00\ud83d \ud83d\ud83d\ude00 \udc00\uD83Dx"}`,
	"{\"relay\":\"\xff\xc3\x28 \xe4\xb8\x96\"}",
	`{"unknown":{"a":[1,2.5,-3e-7,true,false,null,"x\n",{}],"b":{"c":[]}},"relay":"r","more":1e999}`,
	`{"relay":"r","more":1e999+}`, `{"relay":"r","more":[-0.1e0700,1e999]}`,
	`{"relay":"a","relay":"b","collectors":[{"name":"x"}],"collectors":[]}`,
	`{"collectors":[{"stats":{"a":1,"a":2}}]}`,
	`null`, `{}`, `[]`, `1`, ``, ` `, `{`, `{"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{}x`, `{"v":2}`,
	`{"time":1.0}`, `{"time":1e3}`, `{"time":01}`, `{"time":-}`, `{"time":9223372036854775808}`, `{"time":-9223372036854775808}`, `{"time":"1"}`,
	`{"collectors":[{"stats":{"a":01}}]}`, `{"collectors":[{"stats":{"a":.5}}]}`, `{"collectors":[{"stats":{"a":5.}}]}`, `{"collectors":[{"stats":{"a":1e}}]}`,
	`{"collectors":[{"stats":{"a":1e999}}]}`, `{"collectors":[{"stats":{"a":NaN}}]}`, `{"collectors":[{"stats":{"a":"1"}}]}`, `{"collectors":[{"stats":[]}]}`,
	`{"collectors":[{"stats":{"a":0.1,"b":123456789012345678,"c":1.7976931348623157e308,"d":-0,"e":-0.0,"f":0.000001,"g":4.35,"h":179.985}}]}`,
	`{"collectors":{}}`, `{"relay":1}`, `{"relay":"a` + "\n" + `"}`, `{"relay":"\x"}`, `{"relay":"\u12"}`, `{"a":tru}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":-}`, `{"a":+1}`,
	`{"collectors":[{"tags":["a",1]}]}`, `{"collectors":[{"tags":"a"}]}`, `{"ſtats":1,"collectorſ":[]}`,
}

func TestDecodeLikeEncodingJSON(t *testing.T) {
	for _, c := range decodeCases {
		compareDecoders(t, []byte(c))
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	var e Event
	if err := new(Decoder).DecodeEvent([]byte(`{"x":`+deep+`}`), &e); !errors.Is(err, ErrDecode) {
		t.Errorf("5000 levels of an unknown field: %v", err)
	}
}

// compareDecoders decodes with both decoders, into an event that was used before.
func compareDecoders(t *testing.T, data []byte) {
	t.Helper()
	want, wantErr := decodeJSON(data)
	d := new(Decoder)
	got := sample("left over", 1)
	err := d.DecodeEvent(data, got)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q\nours: %v\nencoding/json: %v", data, err, wantErr)
	}
	if err != nil {
		var de *DecodeError
		if !errors.As(err, &de) || de.Offset < 0 || de.Offset > len(data) || !errors.Is(err, ErrDecode) {
			t.Fatalf("%q: the error is %#v", data, err)
		}
		return
	}
	if !sameEvent(got, want) {
		t.Fatalf("%q\nours: %+v\nencoding/json: %+v", data, got, want)
	}
	again, err := EncodeEvent(nil, got)
	if err != nil {
		t.Fatal(err)
	}
	var back Event
	if err := d.DecodeEvent(again, &back); err != nil || !sameEvent(&back, got) {
		t.Fatalf("%q: written again as %q and read back as %+v, %v", data, again, back, err)
	}
}

func TestEncodeErrors(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		e := sample("r", 1)
		e.Collectors[2].Stats[1].Value = v
		got, err := EncodeEvent([]byte("kept"), e)
		if !errors.Is(err, ErrNotFinite) || string(got) != "kept" {
			t.Errorf("%v: %q, %v", v, got, err)
		}
	}
}

func TestFloats(t *testing.T) {
	check := func(v float64) {
		got := appendFloat(nil, v)
		var back float64
		if err := json.Unmarshal(got, &back); err != nil || math.Float64bits(back) != math.Float64bits(v) {
			t.Fatalf("%v is written as %s and read back as %v, %v", v, got, back, err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > len(want)+1 { // encoding/json writes e-9 where strconv writes e-09
			t.Fatalf("%v is written as %s, encoding/json has %s", v, got, want)
		}
		p := parser{data: got}
		if ours := p.float(); p.err != nil || math.Float64bits(ours) != math.Float64bits(v) {
			t.Fatalf("%s is read as %v, %v", got, ours, p.err)
		}
	}
	for i := -200000; i < 200000; i += 37 {
		check(float64(i) / 1e4)
		check(float64(i) * 1.1e-5)
		check(float64(i) * 1e11)
		check(math.Nextafter(float64(i)/1e4, 1e9))
	}
	seed := uint64(42)
	for range 20_000 {
		seed = seed*6364136223846793005 + 1442695040888963407
		if v := math.Float64frombits(seed); !math.IsNaN(v) && !math.IsInf(v, 0) {
			check(v)
		}
	}
}

func TestCodecAllocations(t *testing.T) {
	e := sample("web1", 3)
	buf := make([]byte, 0, 4096)
	d := new(Decoder)
	var got Event
	data, err := EncodeEvent(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { buf, _ = EncodeEvent(buf[:0], e) }); n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = d.DecodeEvent(data, &got) }); n != 0 {
		t.Errorf("decoding allocates %v times", n)
	}
}

func TestInternTableIsBounded(t *testing.T) {
	d := new(Decoder)
	var e Event
	name := []byte(`{"relay":"00000000000000000000000000000000"}`)
	for i := range 3 * internStrings {
		for k, n := 0, i; k < 8; k, n = k+1, n/10 {
			name[12+k] = byte('0' + n%10)
		}
		if err := d.DecodeEvent(name, &e); err != nil {
			t.Fatal(err)
		}
		if e.Relay != string(name[10:len(name)-2]) {
			t.Fatalf("read %q", e.Relay)
		}
		if len(d.names) > internStrings || d.bytes > internBytes+internLongest {
			t.Fatalf("the table holds %d strings of %d bytes", len(d.names), d.bytes)
		}
	}
	long := `{"relay":"` + strings.Repeat("x", internLongest+1) + `"}`
	n := len(d.names)
	if err := d.DecodeEvent([]byte(long), &e); err != nil || len(d.names) != n {
		t.Errorf("a long string was kept: %v", err)
	}
	wide := &Event{Relay: "web1", Collectors: []Collector{{Name: "c"}}}
	for i := range 2 * internLast {
		wide.Collectors[0].Stats = append(wide.Collectors[0].Stats, Stat{ID: "s" + strconv.Itoa(i)})
	}
	data, err := EncodeEvent(nil, wide)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second event is decoded with the names of the first
		if err := d.DecodeEvent(data, &e); err != nil || !sameEvent(&e, wide) || len(d.last) > internLast {
			t.Errorf("a wide event: %d names remembered, %v", len(d.last), err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range decodeCases {
		f.Add([]byte(c))
	}
	for _, e := range goldenEvents {
		data, _ := EncodeEvent(nil, e)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareDecoders(t, data) })
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("web1", int64(1), "cpu", "a:b", "used", 0.25)
	f.Add("\xff\"\\\x00", int64(-1), "", "世", "\u2028", math.Copysign(0, -1))
	f.Fuzz(func(t *testing.T, relay string, tm int64, name, tag, stat string, v float64) {
		e := &Event{Relay: relay, Time: tm, Collectors: []Collector{{name, []string{tag, tag}, []Stat{{stat, v}, {stat, -v}}}, {Name: tag}}}
		data, err := EncodeEvent(nil, e)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if !errors.Is(err, ErrNotFinite) {
				t.Fatalf("%v: %v", v, err)
			}
			return
		}
		if err != nil || !json.Valid(data) {
			t.Fatalf("%q, %v", data, err)
		}
		valid := func(s string) string { // each byte that is not UTF-8 becomes U+FFFD
			return string([]rune(s))
		}
		want := &Event{Relay: valid(relay), Time: tm, Collectors: []Collector{{valid(name), []string{valid(tag), valid(tag)}, []Stat{{valid(stat), v}, {valid(stat), -v}}}, {Name: valid(tag)}}}
		got := sample("left over", 2)
		if err := new(Decoder).DecodeEvent(data, got); err != nil || !sameEvent(got, want) {
			t.Fatalf("%q was read as %+v, %v", data, got, err)
		}
		rel := &RelayEvent{Relay: valid(relay), Time: tm, Kind: RelayEventKind(valid(name)), Tags: []string{valid(tag)}, Reason: valid(stat)}
		var back RelayEvent
		if err := new(Decoder).DecodeRelayEvent(EncodeRelayEvent(nil, rel), &back); err != nil || !sameRelayEvent(&back, rel) {
			t.Fatalf("%+v was read as %+v, %v", rel, back, err)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	e := sample("web1", 3)
	data, err := EncodeEvent(nil, e)
	if err != nil {
		b.Fatal(err)
	}
	perReading := func(b *testing.B) { b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10, "ns/reading") }
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf, _ = EncodeEvent(buf[:0], e)
		}
		perReading(b)
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		d := new(Decoder)
		var got Event
		for b.Loop() {
			if err := d.DecodeEvent(data, &got); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
	type plainCollector struct {
		Name  string             `json:"name"`
		Tags  []string           `json:"tags"`
		Stats map[string]float64 `json:"stats"`
	}
	type plainEvent struct {
		V          int              `json:"v"`
		Relay      string           `json:"relay"`
		Time       int64            `json:"time"`
		Collectors []plainCollector `json:"collectors"`
	}
	var p plainEvent
	if err := json.Unmarshal(data, &p); err != nil {
		b.Fatal(err)
	}
	b.Run("encoding-json/encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(&p); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
	b.Run("encoding-json/decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var p plainEvent
			if err := json.Unmarshal(data, &p); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
	b.ReportMetric(float64(len(data))/10, "B/reading")
}
