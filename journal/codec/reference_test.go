package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// jsonEvent1 and jsonEvent2 are the schemas for encoding/json. Their stats have types of their own,
// which keep the order.
type jsonSpool struct {
	Spool *[3]int64 `json:"spool"`
	Past  bool      `json:"past"`
	jsonOrigin
}

type jsonOrigin struct {
	Edge   string `json:"edge"`
	Origin int64  `json:"origin"`
}

func (j jsonSpool) fill(e *Event) error {
	e.Past, e.Edge, e.Origin = j.Past, j.Edge, j.Origin
	if j.Spool == nil {
		return nil
	}
	e.Spool = Spool{uint32(j.Spool[0]), j.Spool[1], j.Spool[2]}
	if int64(e.Spool.ID) != j.Spool[0] {
		return errors.New("id")
	}
	return nil
}

type jsonEvent1 struct {
	jsonSpool
	Relay      string          `json:"relay"`
	Time       int64           `json:"time"`
	Collectors []jsonCollector `json:"collectors"`
}

type jsonEvent2 struct {
	jsonSpool
	Relay string      `json:"relay"`
	Time  int64       `json:"time"`
	Stats []jsonGroup `json:"stats"`
}

type jsonCollector struct {
	Name  string    `json:"name"`
	Tags  []string  `json:"tags"`
	Stats jsonStats `json:"stats"`
}

type jsonStats []Stat

func (s *jsonStats) UnmarshalJSON(data []byte) error {
	*s = nil
	return eachKey(data, func(key string, value json.RawMessage) error {
		var v float64
		err := json.Unmarshal(value, &v)
		*s = append(*s, Stat{key, v})
		return err
	})
}

// jsonGroup is a pair of tags and the collectors that have them.
type jsonGroup []Collector

func (g *jsonGroup) UnmarshalJSON(data []byte) error {
	*g = nil
	var pair []json.RawMessage
	var tags []string
	if err := json.Unmarshal(data, &pair); err != nil || len(pair) == 0 {
		return err
	}
	if err := json.Unmarshal(pair[0], &tags); err != nil || len(pair) == 1 {
		return err
	}
	return eachKey(pair[1], func(name string, value json.RawMessage) error {
		var stats jsonStats
		var v float64
		err := json.Unmarshal(value, &v)
		if value[0] == '{' {
			err = json.Unmarshal(value, &stats)
		} else {
			stats = jsonStats{{name, v}}
		}
		*g = append(*g, Collector{name, tags, stats})
		return err
	})
}

// eachKey calls f for every key of an object whose value is not null, in order.
func eachKey(data []byte, f func(key string, value json.RawMessage) error) error {
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
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return err
		}
		if string(v) == "null" {
			continue
		}
		if err := f(key.(string), v); err != nil {
			return err
		}
	}
	return nil
}

// decodeJSON is the reference: encoding/json, with the schema of the version.
func decodeJSON(data []byte) (*Event, error) {
	head := struct {
		V int64 `json:"v"`
	}{1}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	switch head.V {
	case 1:
		var j jsonEvent1
		err := json.Unmarshal(data, &j)
		e := &Event{Relay: j.Relay, Time: j.Time}
		for _, c := range j.Collectors {
			e.Collectors = append(e.Collectors, Collector{c.Name, c.Tags, c.Stats})
		}
		return e, errors.Join(err, j.fill(e))
	case 2:
		var j jsonEvent2
		err := json.Unmarshal(data, &j)
		e := &Event{Relay: j.Relay, Time: j.Time}
		for _, g := range j.Stats {
			e.Collectors = append(e.Collectors, g...)
		}
		return e, errors.Join(err, j.fill(e))
	}
	return nil, errors.New("version")
}

var decodeCases = []string{
	`{"spool":[1],"spool":[null]}`, `{"spool":[1,2,3],"spool":[null,4]}`, `{"spool":[1,2,3],"spool":null}`, `{"spool":[1,2,3],"spool":[]}`,
	`{"origin":1}`, `{"edge":"a"}`, `{"edge":"é\u0000","origin":-1,"v":1}`, `{"edge":1}`, `{"origin":"x"}`,
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
	`{"v":2,"spool":[1,2,3],"past":true}`, `{"spool":[4294967295,-2],"past":false,"PAST":true}`, `{"spool":[1,2,3,{}],"past":null}`, `{"spool":[],"past":tru}`,
	`{"spool":[1,2,3],"spool":null}`, `{"spool":[4294967296]}`, `{"spool":[-1]}`, `{"spool":[1.5]}`, `{"spool":{}}`, `{"spool":[null,7],"past":1}`, `{"past":"true"}`, `{"spool":[1,2`,
	`null`, `{}`, `[]`, `1`, ``, ` `, `{`, `{"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{}x`, `{"v":2}`, `{"v":3}`, `{"v":0}`, `{"v":-1}`,
	`{"time":1.0}`, `{"time":1e3}`, `{"time":01}`, `{"time":-}`, `{"time":9223372036854775808}`, `{"time":-9223372036854775808}`, `{"time":"1"}`,
	`{"collectors":[{"stats":{"a":01}}]}`, `{"collectors":[{"stats":{"a":.5}}]}`, `{"collectors":[{"stats":{"a":5.}}]}`, `{"collectors":[{"stats":{"a":1e}}]}`,
	`{"collectors":[{"stats":{"a":1e999}}]}`, `{"collectors":[{"stats":{"a":NaN}}]}`, `{"collectors":[{"stats":{"a":"1"}}]}`, `{"collectors":[{"stats":[]}]}`,
	`{"collectors":[{"stats":{"a":0.1,"b":123456789012345678,"c":1.7976931348623157e308,"d":-0,"e":-0.0,"f":0.000001,"g":4.35,"h":179.985}}]}`,
	`{"collectors":{}}`, `{"relay":1}`, `{"relay":"a` + "\n" + `"}`, `{"relay":"\x"}`, `{"relay":"\u12"}`, `{"a":tru}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":-}`, `{"a":+1}`,
	`{"v":2,"relay":"web1","time":1795416970017829163,"stats":[[["service:web1","guy"],{"cpu":{"used":0.25,"idle":0.75},"load":1.5}],[[],{"x":{}}]]}`,
	` { "stats" : [ [ [ "a" , "\u0062]" ] , { "x" : 1e3 , "y" : { "z" : -0.5E-2 } } ] , [ [ "a" , "\u0062]" ] , { } ] ] , "V" : 2 } `,
	`{"stats":[[["a"],{"x":1,"x":2,"y":{"x":3,"x":4}}]],"v":2,"STATS":[[["b"],{"z":1}]],"collectors":5}`,
	`{"v":2,"stats":null}`, `{"v":2,"stats":[null,[],[null],[null,null],[["a"]],[["a"],{"x":null,"y":{"z":null}},"more",[{}]],[[null],{"x":1}]]}`,
	`{"v":1,"stats":5,"collectors":[{"name":"x"}]}`, `{"v":2,"stats":[],"v":1,"collectors":[{"name":"x"}]}`, `{"v":1,"collectors":5,"v":2,"stats":[[["a"],{"x":1}]]}`,
	`{"v":2,"v":null}`, `{"v":3,"v":2}`, `{"v":2,"stats":5,"v":1}`, `{"collectors":[],"stats":[[[],{"x":1}]]}`, `{"v":2,"stats":[[["a"],{"x":1}]],"v":3}`,
	`{"v":2,"stats":{}}`, `{"v":2,"stats":[{}]}`, `{"v":2,"stats":[["a",{}]]}`, `{"v":2,"stats":[[[1],{}]]}`, `{"v":2,"stats":[[[["a"]],{}]]}`, `{"v":2,"stats":[[{},{}]]}`,
	`{"v":2,"stats":[[[],[]]]}`, `{"v":2,"stats":[[[],{"x":"1"}]]}`, `{"v":2,"stats":[[[],{"x":[1]}]]}`, `{"v":2,"stats":[[[],{"x":{"y":{}}}]]}`, `{"v":2,"stats":[[[],{"x":01}]]}`,
	`{"v":2,"stats":[[[],{"x":1e999}]]}`, `{"v":2,"stats":[[[],{"x":1}`, `{"v":2,"stats":[[["a`, `{"v":2,"stats":[[["a\`, `{"v":2,"stats":[[[],{"x":1,}]]}`, `{"v":2,"stats":[[[],{"x"}]]}`,
	`{"v":2,"stats":[[["]","\"]","\\"],{"\u0000\ud83d":1}]]}`, `{"v":2.0}`, `{"v":"2"}`, `{"v":2,`,
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
	first := d.DecodeEvent(data, got)
	err := d.DecodeEvent(data, got) // with the names and the tags of the first time
	if (err == nil) != (first == nil) {
		t.Fatalf("%q: at first %v, then %v", data, first, err)
	}
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
