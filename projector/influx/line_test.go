package influx_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb/models"

	"github.com/nanopack/pulse/projector/influx"
)

func TestAppendLine(t *testing.T) {
	for _, c := range []struct {
		point influx.Point
		want  string
	}{
		{influx.Point{Series: influx.NewSeries("cpu", influx.Tag{Key: "service", Value: "web"}, influx.Tag{Key: "host", Value: "h1"}),
			Fields: []influx.Field{{Key: "cpu", Value: 0.25}}, Time: 12}, "cpu,host=h1,service=web cpu=0.25 12\n"},
		{influx.Point{Series: influx.NewSeries("a b,c", influx.Tag{Key: "k =,", Value: "v =,"}),
			Fields: []influx.Field{{Key: "f =,", Value: 1e300}, {Key: "g", Value: -1}}, Time: -5}, `a\ b\,c,k\ \=\,=v\ \=\, f\ \=\,=1e+300,g=-1 -5` + "\n"},
		{influx.Point{Series: influx.NewSeries("aggregate"), Fields: []influx.Field{{Key: "x", Value: math.NaN()}, {Key: "x:count", Value: 3}}}, "aggregate x:count=3 0\n"},
		{influx.Point{Series: influx.NewSeries("x"), Fields: []influx.Field{{Key: "time", Value: 3}}}, ""},
		{influx.Point{Series: influx.NewSeries("x")}, ""},
	} {
		var res influx.WriteResult
		if got := string(influx.AppendLine(nil, &c.point, &res)); got != c.want {
			t.Errorf("got %q, expected %q", got, c.want)
		}
	}
}

// The limit on the size of a key counts the backslashes in it.
func TestLongMeasurement(t *testing.T) {
	for name, rejected := range map[string]int{"m": 0, ",": 1} {
		var res influx.WriteResult
		p := influx.Point{Series: influx.NewSeries(strings.Repeat(name, 40_000)), Fields: []influx.Field{{Key: "f", Value: 1}}}
		if line := influx.AppendLine(nil, &p, &res); res.Rejected != rejected || (len(line) == 0) != (rejected > 0) {
			t.Errorf("%q: %d bytes, %+v", name, len(line), res)
		}
	}
}

func TestNewSeries(t *testing.T) {
	tags := []influx.Tag{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}, {Key: "", Value: "x"}, {Key: "y", Value: ""}, {Key: "time", Value: "z"}}
	s := influx.NewSeries("m", tags...)
	if string(s.AppendKey(nil)) != "m,a=2,b=1" || s.Measurement() != "m" || len(s.Tags()) != 2 || tags[0].Key != "b" {
		t.Errorf("key %q, tags %v, given %v", string(s.AppendKey(nil)), s.Tags(), tags)
	}
	if a, b := influx.NewSeries("m", tags[0], tags[2]), influx.NewSeries("m", tags[2], tags[0]); string(a.AppendKey(nil)) == string(b.AppendKey(nil)) {
		t.Error("of two tags with one key, the first is not kept")
	}
}

// Whatever the strings are, the line is a single line, InfluxDB's own parser parses it into the
// same point, and the key is the one that the engine makes.
func FuzzLine(f *testing.F) {
	for _, s := range []string{
		"cpu", "a b", "a,b", "a=b", `a\`, `\`, `\\`, `a\,`, `a\ b`, `a\=b`, `\"`, `"`, "#x", "a#!~#b", "#!~", "\x00", "\n", "\r\n", "\t",
		"\xff", "é", "日本", "\u2028", "time", " ", "  ", "=", ",", "a\\\\ b", "\x7f", "＼", "'",
	} {
		f.Add(s, "host", "web1", "cpu", 0.5, int64(1))
		f.Add("cpu", s, "web1", "cpu", 1e308, int64(-1))
		f.Add("cpu", "host", s, "cpu", 5e-324, int64(math.MaxInt64))
		f.Add("cpu", "host", "web1", s, math.Inf(1), int64(math.MinInt64))
		f.Add(s, s, s, s, math.NaN(), int64(0))
	}
	f.Fuzz(func(t *testing.T, measurement, key, value, field string, v float64, at int64) {
		s := influx.NewSeries(measurement, influx.Tag{Key: key, Value: value}, influx.Tag{Key: "z" + key, Value: "z" + value})
		p := influx.Point{Series: s, Fields: []influx.Field{{Key: field, Value: v}, {Key: field + "2", Value: 2}}, Time: at}
		var res influx.WriteResult
		line := influx.AppendLine(nil, &p, &res)
		fields := influx.CheckFields(&p, &influx.WriteResult{})
		if (res.Rejected == 0) != (len(fields) == 2) {
			t.Fatalf("%d fields of 2 are fine, and %d points were rejected", len(fields), res.Rejected)
		}
		points, err := models.ParsePointsWithPrecision(line, time.Unix(0, 0), "ns")
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if len(fields) == 0 {
			if len(line) != 0 || len(points) != 0 {
				t.Fatalf("%q for nothing to store", line)
			}
			return
		}
		if len(points) != 1 {
			t.Fatalf("%q is %d points", line, len(points))
		}
		got := points[0]
		if string(got.Name()) != s.Measurement() || got.UnixNano() != at || len(got.Tags()) != len(s.Tags()) {
			t.Fatalf("%q: %q %d %v, expected %q %d %v", line, got.Name(), got.UnixNano(), got.Tags(), s.Measurement(), at, s.Tags())
		}
		for i, tag := range got.Tags() {
			if string(tag.Key) != s.Tags()[i].Key || string(tag.Value) != s.Tags()[i].Value {
				t.Fatalf("%q: tag %q, expected %q", line, tag, s.Tags()[i])
			}
		}
		own := map[string]string{}
		for _, tag := range s.Tags() {
			own[tag.Key] = tag.Value
		}
		if engine := models.MakeKey([]byte(s.Measurement()), models.NewTags(own)); string(engine) != string(s.AppendKey(nil)) || string(got.Key()) != string(s.AppendKey(nil)) {
			t.Fatalf("key %q, the engine makes %q and parses %q", string(s.AppendKey(nil)), engine, got.Key())
		}
		stored, err := got.Fields()
		if err != nil || len(stored) != len(fields) {
			t.Fatalf("%q: fields %v, expected %v (%v)", line, stored, fields, err)
		}
		for _, f := range fields {
			if stored[influx.Clean(f.Key)] != f.Value {
				t.Fatalf("%q: fields %v, expected %v", line, stored, fields)
			}
		}
		for _, s := range []string{measurement, key, value, field} {
			if c := influx.Clean(s); influx.Clean(c) != c || (c == "") != (s == "") {
				t.Fatalf("Clean(%q) is %q, and that becomes %q", s, c, influx.Clean(c))
			}
		}
	})
}

func BenchmarkAppendLine(b *testing.B) {
	p := influx.Point{Series: influx.NewSeries("cpu_used", influx.Tag{Key: "host", Value: "web1.example.com"}, influx.Tag{Key: "service", Value: "web"}),
		Fields: []influx.Field{{Key: "cpu_used", Value: 12.345678}}, Time: 1795416970017829163}
	var res influx.WriteResult
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = influx.AppendLine(dst[:0], &p, &res)
	}
}
