package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
)

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
	buf := make([]byte, 0, 4096)
	d := new(Decoder)
	var got Event
	for name, e := range map[string]*Event{"sample": sample("web1", 3), "singles": singles("web1", 3)} {
		data, err := EncodeEvent(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { buf, _ = EncodeEvent(buf[:0], e) }); n != 0 {
			t.Errorf("%s: encoding allocates %v times", name, n)
		}
		for _, data := range [][]byte{data, encodeVersion1(nil, e)} {
			if n := testing.AllocsPerRun(100, func() { _ = d.DecodeEvent(data, &got) }); n != 0 {
				t.Errorf("decoding %s allocates %v times", data, n)
			}
		}
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

// An event of a newer version has an error that says so, whatever its other fields are.
func TestNewerVersions(t *testing.T) {
	for _, data := range []string{`{"v":3}`, `{"v":3,"relay":{},"time":"today","stats":5,"collectors":1,"kind":[]}`, `{"stats":[1,2],"tags":0,"v":12}`} {
		var e Event
		var r RelayEvent
		d := new(Decoder)
		for _, err := range []error{d.DecodeEvent([]byte(data), &e), d.DecodeRelayEvent([]byte(data), &r)} {
			if !errors.Is(err, ErrDecode) || !strings.Contains(err.Error(), "is not known; a newer pulse wrote this") {
				t.Errorf("%s: %v", data, err)
			}
		}
	}
	if err := new(Decoder).DecodeRelayEvent([]byte(`{"v":2,"relay":"r"}`), new(RelayEvent)); err == nil || !strings.Contains(err.Error(), "version 2 is not known") {
		t.Errorf("a relay event of version 2: %v", err)
	}
}

// Tag sets are kept, in a bounded table, and shared by the collectors that have them: an event of
// many tags and many collectors takes no more room than its bytes.
func TestTagSetsAreShared(t *testing.T) {
	d := new(Decoder)
	var e, other Event
	for i := range internStrings + 10 {
		data := `{"v":2,"relay":"r","stats":[[["a:` + strconv.Itoa(i) + `","b"],{"x":1,"y":{"z":2}}]]}`
		if err := d.DecodeEvent([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if x, y := e.Collectors[0].Tags, e.Collectors[1].Tags; len(x) != 2 || &x[0] != &y[0] || x[0] != "a:"+strconv.Itoa(i) || cap(x) != 2 {
			t.Fatalf("tags are %q and %q", x, y)
		}
		if len(d.sets) > internStrings || d.setBytes > internBytes+setLongest {
			t.Fatalf("the table holds %d sets of %d bytes", len(d.sets), d.setBytes)
		}
		if i == 0 {
			if err := d.DecodeEvent([]byte(data), &other); err != nil || &other.Collectors[0].Tags[0] != &e.Collectors[0].Tags[0] {
				t.Errorf("the same tags of another event are not shared: %v", err)
			}
		}
	}
	if tags := other.Collectors[0].Tags; tags[0] != "a:0" {
		t.Errorf("an older event's tags became %q", tags)
	}
	long := `{"v":2,"stats":[[["` + strings.Repeat("x", setLongest) + `"],{"x":1}]]}`
	n := len(d.sets)
	if err := d.DecodeEvent([]byte(long), &e); err != nil || len(d.sets) != n || len(e.Collectors[0].Tags[0]) != setLongest {
		t.Errorf("a long set was kept: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range decodeCases {
		f.Add([]byte(c))
	}
	for _, e := range goldenEvents {
		data, _ := EncodeEvent(nil, e)
		f.Add(data)
		f.Add(encodeVersion1(nil, e))
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareDecoders(t, data) })
}

// FuzzRoundTrip makes an event of the fuzzer's bytes. What both versions' encoders write of it must
// be the event again, for our decoder and for encoding/json.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("web1 some bytes that become names, tags and numbers"))
	f.Add(bytes.Repeat([]byte{0, 1, 2, 3, 0xff, '"', '\\'}, 30))
	f.Fuzz(func(t *testing.T, data []byte) {
		e := fuzzEvent(data)
		encoded, err := EncodeEvent([]byte("kept"), e)
		if err != nil || !json.Valid(encoded[4:]) {
			t.Fatalf("%q, %v", encoded, err)
		}
		if again, err := EncodeEvent(nil, e); err != nil || !bytes.Equal(again, encoded[4:]) {
			t.Fatalf("written as %q, then as %q, %v", encoded[4:], again, err)
		}
		want := validEvent(e)
		got := sample("left over", 2)
		d := new(Decoder)
		for _, data := range [][]byte{encoded[4:], encodeVersion1(nil, e)} {
			if err := d.DecodeEvent(data, got); err != nil || !sameEvent(got, want) {
				t.Fatalf("%q was read as %+v, %v; want %+v", data, got, err, want)
			}
			compareDecoders(t, data)
		}
	})
}

// fuzzEvent makes an event of data: many names and tags are alike, and some are no UTF-8.
func fuzzEvent(data []byte) *Event {
	take := func(n int) []byte {
		n = min(n, len(data))
		part := data[:n:n]
		data = data[n:]
		return part
	}
	number := func(below int) int { return int(append(take(1), 0)[0]) % below }
	text := func() string {
		if n := number(8); n < 4 {
			return []string{"cpu", "", "a:b", "é]"}[n]
		}
		return string(take(number(5)))
	}
	value := func() float64 {
		v := math.Float64frombits(binary.LittleEndian.Uint64(append(take(8), make([]byte, 8)...)))
		if !isFinite(v) {
			return float64(number(100)) / 4
		}
		return v
	}
	e := &Event{Relay: text(), Time: int64(math.Float64bits(value()))}
	for range number(6) {
		c := Collector{Name: text()}
		if n := len(e.Collectors); n > 0 && number(2) == 0 {
			c.Tags = e.Collectors[n-1].Tags
		} else {
			for range number(3) {
				c.Tags = append(c.Tags, text())
			}
		}
		if number(2) == 0 {
			c.Stats = []Stat{{c.Name, value()}}
		}
		for range number(3) {
			c.Stats = append(c.Stats, Stat{text(), value()})
		}
		e.Collectors = append(e.Collectors, c)
	}
	return e
}

// validEvent is e with U+FFFD for each byte that is not UTF-8.
func validEvent(e *Event) *Event {
	valid := func(s string) string { return string([]rune(s)) }
	v := &Event{Relay: valid(e.Relay), Time: e.Time}
	for _, c := range e.Collectors {
		of := Collector{Name: valid(c.Name)}
		for _, tag := range c.Tags {
			of.Tags = append(of.Tags, valid(tag))
		}
		for _, s := range c.Stats {
			of.Stats = append(of.Stats, Stat{valid(s.ID), s.Value})
		}
		v.Collectors = append(v.Collectors, of)
	}
	return v
}

func FuzzRelayEvent(f *testing.F) {
	f.Add("web1", int64(1), "added", "a:b", "used", []byte(`{"v":1,"kind":"added"}`))
	f.Add("\xff\"\\\x00", int64(-1), "", "世", "\u2028", []byte(`{"tags":["a"],"v":null,"duration":1.5}`))
	f.Fuzz(func(t *testing.T, relay string, tm int64, kind, tag, reason string, data []byte) {
		valid := func(s string) string { return string([]rune(s)) }
		want := &RelayEvent{Relay: valid(relay), Time: tm, Kind: RelayEventKind(valid(kind)), Tags: []string{valid(tag)}, Reason: valid(reason)}
		var d Decoder
		var got RelayEvent
		if err := d.DecodeRelayEvent(EncodeRelayEvent(nil, want), &got); err != nil || !sameRelayEvent(&got, want) {
			t.Fatalf("%+v was read as %+v, %v", want, got, err)
		}
		if d.DecodeRelayEvent(data, &got) != nil {
			return
		}
		var again RelayEvent
		if err := d.DecodeRelayEvent(EncodeRelayEvent(nil, &got), &again); err != nil || !sameRelayEvent(&again, &got) {
			t.Fatalf("%q was read as %+v, and written and read again as %+v, %v", data, got, again, err)
		}
	})
}

// BenchmarkCodec encodes and decodes events of ten readings: in three collectors, and in a collector
// for each stat as relays of Pulse 0.2 send them. Version 1 is measured too, for comparison.
func BenchmarkCodec(b *testing.B) {
	perReading := func(b *testing.B, size int) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10, "ns/reading")
		b.ReportMetric(float64(size)/10, "B/reading")
	}
	for _, of := range []struct {
		name  string
		event *Event
	}{{"", sample("web1", 3)}, {"singles/", singles("web1", 3)}} {
		data, err := EncodeEvent(nil, of.event)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(of.name+"encode", func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf, _ = EncodeEvent(buf[:0], of.event)
			}
			perReading(b, len(data))
		})
		older := encodeVersion1(nil, of.event)
		b.Run(of.name+"version1/encode", func(b *testing.B) {
			var buf []byte
			for b.Loop() {
				buf = encodeVersion1(buf[:0], of.event)
			}
			perReading(b, len(older))
		})
		for name, data := range map[string][]byte{"decode": data, "version1/decode": older} {
			b.Run(of.name+name, func(b *testing.B) {
				b.ReportAllocs()
				d := new(Decoder)
				var got Event
				for b.Loop() {
					if err := d.DecodeEvent(data, &got); err != nil {
						b.Fatal(err)
					}
				}
				perReading(b, len(data))
			})
		}
	}
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
	data := encodeVersion1(nil, sample("web1", 3)) // a form that encoding/json has types for
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
		perReading(b, len(data))
	})
	b.Run("encoding-json/decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var p plainEvent
			if err := json.Unmarshal(data, &p); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b, len(data))
	})
}
