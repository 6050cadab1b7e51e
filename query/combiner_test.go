package query

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	influxquery "github.com/influxdata/influxdb/query"
)

// Each verb gives the result of InfluxDB's function of that name. InfluxDB's own reducers are the
// reference, over random values with many equal values and times.
func TestVerbsAreInfluxDBs(t *testing.T) {
	slice := func(reduce func([]influxquery.FloatPoint) []influxquery.FloatPoint) func([]influxquery.FloatPoint) float64 {
		return func(p []influxquery.FloatPoint) float64 { return reduce(p)[0].Value }
	}
	step := func(reduce func(prev, curr *influxquery.FloatPoint) (int64, float64, []any)) func([]influxquery.FloatPoint) float64 {
		return func(p []influxquery.FloatPoint) float64 {
			var prev *influxquery.FloatPoint
			for i := range p {
				at, v, _ := reduce(prev, &p[i])
				prev = &influxquery.FloatPoint{Time: at, Value: v}
			}
			return prev.Value
		}
	}
	reference := map[verb]func([]influxquery.FloatPoint) float64{
		"min":    step(influxquery.FloatMinReduce),
		"max":    step(influxquery.FloatMaxReduce),
		"sum":    step(influxquery.FloatSumReduce),
		"first":  step(influxquery.FloatFirstReduce),
		"last":   step(influxquery.FloatLastReduce),
		"median": slice(influxquery.FloatMedianReduceSlice),
		"mode":   slice(influxquery.FloatModeReduceSlice),
		"stddev": slice(influxquery.FloatStddevReduceSlice),
		"mean": func(p []influxquery.FloatPoint) float64 {
			r := influxquery.NewFloatMeanReducer()
			for i := range p {
				r.AggregateFloat(&p[i])
			}
			return r.Emit()[0].Value
		},
		"spread": func(p []influxquery.FloatPoint) float64 {
			r := influxquery.NewFloatSpreadReducer()
			for i := range p {
				r.AggregateFloat(&p[i])
			}
			return r.Emit()[0].Value
		},
		"count": func(p []influxquery.FloatPoint) float64 { return float64(len(p)) },
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, v := range verbs() {
		of := reference[v]
		if of == nil {
			t.Fatalf("no reference for %s", v)
		}
		for round := range 500 {
			n := 1 + rnd.IntN(12)
			points := make([]influxquery.FloatPoint, n)
			c := combiner{verb: v}
			for i := range points {
				points[i] = influxquery.FloatPoint{Time: int64(rnd.IntN(5)), Value: float64(rnd.IntN(6)) / 4}
				c.add(sample{points[i].Time, points[i].Value})
			}
			want := of(points)
			got, ok := c.result()
			if v == "mode" && frequency(points, got) == frequency(points, want) {
				// If several values are equally frequent, InfluxDB documents the earliest, and so
				// does Pulse. But InfluxDB takes the one that its unstable sort puts first.
				continue
			}
			if ok == math.IsNaN(want) || ok && !near(got, want) {
				t.Fatalf("%s, round %d, %v: %v %v, want %v", v, round, points, got, ok, want)
			}
		}
	}
}

func frequency(points []influxquery.FloatPoint, v float64) (n int) {
	for _, p := range points {
		if p.Value == v {
			n++
		}
	}
	return n
}

func TestModeTakesTheEarliestOfSeveral(t *testing.T) {
	c := combiner{verb: "mode"}
	for _, s := range []sample{{5, 1}, {9, 1}, {6, 2}, {4, 2}, {1, 3}, {7, 4}, {4, 4}} {
		c.add(s)
	}
	if got, _ := c.result(); got != 2 { // 1, 2 and 4 come twice; 2 and 4 were seen first at 4; 2 is smaller
		t.Errorf("%v", got)
	}
}

func TestCombinerEdges(t *testing.T) {
	for _, v := range verbs() {
		c := combiner{verb: v}
		if got, ok := c.result(); ok {
			t.Errorf("%s of nothing: %v", v, got)
		}
		// A result that no float64 holds is no value, and does not break the answer.
		c = combiner{verb: v}
		c.add(sample{1, math.MaxFloat64})
		c.add(sample{2, math.MaxFloat64})
		c.add(sample{3, -math.MaxFloat64})
		if got, ok := c.result(); ok && !finite(got) {
			t.Errorf("%s: %v", v, got)
		}
	}
	// The result does not depend on the order in which an index in memory visits its series.
	a, b := combiner{verb: "sum"}, combiner{verb: "sum"}
	values := []float64{1e16, 1, -1e16, 3, 0.1, 0.2}
	for i := range values {
		a.add(sample{0, values[i]})
		b.add(sample{0, values[len(values)-1-i]})
	}
	x, _ := a.result()
	y, _ := b.result()
	if x != y || !near(x, 4.3) {
		t.Errorf("%v and %v", x, y)
	}
}

func BenchmarkCombine(b *testing.B) {
	for _, v := range []verb{"mean", "median", "stddev"} {
		b.Run(string(v), func(b *testing.B) {
			for b.Loop() {
				c := combiner{verb: v}
				for i := range 1000 {
					c.add(sample{int64(i), float64(i % 37)})
				}
				c.result()
			}
		})
	}
}

// If the sum, difference or squares of readings exceed a float64, there still are a mean, a median
// and a deviation, and no mean is beyond the readings. The same holds for equal readings whose sum
// was rounded.
func TestVerbsOfHugeReadings(t *testing.T) {
	const h = 1e308
	for _, c := range []struct {
		verb   verb
		values []float64
		want   float64
	}{
		{"mean", slices.Repeat([]float64{h}, 32), h},
		{"mean", []float64{1.7 * h, -1.7 * h, 1.7 * h, 1.7 * h, -1.7 * h}, 1.7 * h / 5},
		{"mean", []float64{-1.7 * h, -1.7 * h, 0.4 * h}, -h},
		{"mean", slices.Repeat([]float64{0.1}, 3), 0.1},
		{"mean", slices.Repeat([]float64{0.7}, 11), 0.7},
		{"sum", []float64{h, h, -h}, h},
		{"median", []float64{-1.7 * h, 1.7 * h}, 0},
		{"median", []float64{1.5 * h, 1.7 * h}, 1.6 * h},
		{"stddev", []float64{-h, h}, math.Sqrt2 * h},
		{"stddev", []float64{1e200, 3e200}, math.Sqrt2 * 1e200},
	} {
		comb := combiner{verb: c.verb}
		for i, v := range c.values {
			comb.add(sample{int64(i), v})
		}
		got, ok := comb.result()
		if !ok || math.Abs(got-c.want) > 1e-12*math.Abs(c.want) {
			t.Errorf("%s of %v: %v (%t), want %v", c.verb, c.values, got, ok, c.want)
		}
		if c.verb == "mean" && (got < slices.Min(c.values) || got > slices.Max(c.values)) {
			t.Errorf("the mean of %v is %v, beyond them", c.values, got)
		}
	}
}
