package query

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/internal/tagfilter"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/latest"
)

// engine is a world that uses the real storage and query engine of InfluxDB 1.8. Its db holds the
// same rows in the database of evaluate_test.go.
type engine struct {
	*world
	store *embedded.Store
	db    *database
}

func newEngine(t testing.TB, change func(*Options)) *engine {
	t.Helper()
	e := &engine{db: &database{}}
	var err error
	if e.store, err = embedded.Open(embedded.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.store.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, st := range []string{`CREATE DATABASE "statistics"`, `CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 0s REPLICATION 1`} {
		if _, err := e.store.Query(context.Background(), st, nil); err != nil {
			t.Fatal(err)
		}
	}
	e.world = startWorld(t, func(o *Options) {
		o.Stored = influx.Clean
		if change != nil {
			change(o)
		}
	})
	e.influx.query = e.store.Query
	e.influx.ping = e.store.Ping
	return e
}

// write stores the rows of e.db in the engine.
func (e *engine) write(t *testing.T) {
	t.Helper()
	var points []influx.Point
	for _, r := range e.db.rows {
		var tags []influx.Tag
		for _, k := range slices.Sorted(maps.Keys(r.tags)) {
			tags = append(tags, influx.Tag{Key: k, Value: r.tags[k]})
		}
		p := influx.Point{Series: influx.NewSeries("aggregate", tags...), Time: r.time}
		for _, k := range slices.Sorted(maps.Keys(r.fields)) {
			p.Fields = append(p.Fields, influx.Field{Key: k, Value: r.fields[k]})
		}
		points = append(points, p)
	}
	res, err := e.store.Write(context.Background(), influx.PolicyAggregate, points)
	if err != nil || res.Rejected > 0 || res.Dropped > 0 {
		t.Fatal(res, err)
	}
}

// For every verb and many selections, the engine gives the same answers as the evaluator that the
// other tests trust. Old rows are among the data.
func TestEngineAgreesWithTheEvaluator(t *testing.T) {
	e := newEngine(t, func(o *Options) { o.Location = time.FixedZone("", 3*3600+1800) })
	rnd := rand.New(rand.NewPCG(1, 2))
	for at := testNow.Add(-3 * 24 * time.Hour).Truncate(15 * time.Minute); at.Before(testNow); at = at.Add(15 * time.Minute) {
		for host := range 3 {
			if rnd.IntN(4) == 0 {
				continue
			}
			tags := map[string]string{"host": fmt.Sprint("web", host), "service": fmt.Sprint("s", host)}
			if host == 2 {
				delete(tags, "service")
			}
			if testNow.Sub(at) > 2*24*time.Hour {
				e.db.addOld(at, tags, "cpu", float64(rnd.IntN(50)))
				continue
			}
			readings := make([]float64, 1+rnd.IntN(5))
			for i := range readings {
				readings[i] = float64(rnd.IntN(1000)) / 8
			}
			e.db.addWindow(at, tags, "cpu", readings...)
		}
	}
	e.write(t)
	for _, verb := range verbs() {
		if verb == "mode" {
			continue // the engine takes any of several modes: see TestVerbsAreInfluxDBs
		}
		for _, selection := range []string{"", "&start=3d", "&start=4h&stop=2h", "&host=web1", "&host=web1&host=web2&service=s0", "&host=nobody",
			"&service=", "&service=&service=s0", "&service=&host=web1", "&nosuch=", "&nosuch=&nosuch=x", "&nosuch=&service=s1",
			"&cpu=5", "&start=2d&backfill=-1"} {
			for _, kind := range []string{"hourly", "daily"} {
				path := "/" + kind + "/cpu?verb=" + string(verb) + selection
				e.influx.query = e.store.Query
				real := e.get(t, path)
				e.influx.query = e.db.query
				evaluated := e.get(t, path)
				if real.status != evaluated.status || real.status == 200 && !sameJSON(t, real.body, evaluated.body) {
					t.Fatalf("%s:\nengine    %d %s\nevaluator %d %s", path, real.status, real.body, evaluated.status, evaluated.body)
				}
			}
		}
	}
	e.influx.query = e.store.Query
	e.get(t, "/keys").want(t, 200, `["cpu"]`+"\n")
	e.get(t, "/tags").want(t, 200, `["host","service"]`+"\n")
	e.get(t, "/status").contains(t, 200, `"reachable": true`)
}

// A filter selects the same series on every route, in the index in memory and in the engine.
func TestFiltersMeanTheSameEverywhere(t *testing.T) {
	index := latest.New(latest.Options{})
	e := newEngine(t, func(o *Options) { o.Latest = index })
	var records []journal.Record
	for i, tags := range [][]string{{"service:web", "zone:a"}, {"service:shop"}, {"zone:b"}, nil} {
		host := fmt.Sprint("h", i)
		event := codec.Event{Relay: host, Time: minutesAgo(0), Collectors: []codec.Collector{
			{Name: "c", Tags: tags, Stats: []codec.Stat{{ID: "cpu", Value: float64(int(1) << i)}}}}}
		records = append(records, journal.Record{Seq: uint64(i + 1), Event: &event})
		stored := map[string]string{"host": host}
		for _, tag := range tags {
			key, value, _ := strings.Cut(tag, ":")
			stored[key] = value
		}
		e.db.addWindow(testNow.Truncate(15*time.Minute), stored, "cpu", float64(int(1)<<i))
	}
	if _, err := index.Apply(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	e.write(t)
	for selection, want := range map[string]float64{ // the sum identifies the selected series
		"": 15, "&service=web": 1, "&service=": 12, "&service=&zone=b": 4, "&zone=": 10, "&service=&zone=": 8,
		"&service=&service=web": 13, "&service=&service=web&zone=a&zone=": 9, "&nosuch=": 15, "&nosuch=&nosuch=x": 15,
		"&nosuch=&host=h1": 2, "&service=&host=h2&host=h0": 4, "&host=": 0, "&host=&host=h3": 8,
	} {
		var got []float64
		for _, path := range []string{"/latest/cpu?verb=sum", "/hourly/cpu?verb=sum", "/daily/cpu?verb=sum"} {
			a := e.get(t, path+selection)
			sum := 0.0
			if _, text, ok := strings.Cut(a.body, `"value":`); ok || a.status == 200 {
				if !ok {
					_, text, _ = strings.Cut(a.body, `":`)
				}
				if _, err := fmt.Sscan(text, &sum); err != nil {
					t.Fatal(path+selection, a.body, err)
				}
			}
			got = append(got, sum)
		}
		if !slices.Equal(got, []float64{want, want, want}) {
			t.Errorf("%q: /latest, /hourly and /daily have %v, want %v", selection, got, want)
		}
	}
}

// sameJSON compares answers. Numbers may differ in the last digits, because the order of additions
// differs.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	return same(x, y)
}

func same(x, y any) bool {
	switch x := x.(type) {
	case float64:
		y, ok := y.(float64)
		return ok && near(x, y)
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, same)
	case map[string]any:
		y, ok := y.(map[string]any)
		return ok && maps.EqualFunc(x, y, same)
	}
	return reflect.DeepEqual(x, y)
}

// Every name and value of the corpus that can be stored is found again by itself, and damages
// nothing.
func TestEngineWithTheCorpus(t *testing.T) {
	e := newEngine(t, nil)
	hour := testNow.Truncate(time.Hour)
	var names []string
	for _, name := range corpus(t) {
		if checkName("", name) == nil && !tagfilter.Reserved(name) && name != "_measurement" && !influxnames.IsCompanion(name) {
			names = append(names, name)
		}
	}
	for i, name := range names {
		e.db.addWindow(hour, map[string]string{"host": fmt.Sprint(i)}, name, float64(i))          // as a stat
		e.db.addWindow(hour, map[string]string{"host": name}, "cpu", float64(i))                  // as a value
		e.db.addWindow(hour, map[string]string{name: "x", "n": fmt.Sprint(i)}, "ram", float64(i)) // as a tag
	}
	e.write(t)
	for i, name := range names {
		q := url.QueryEscape(name)
		want := fmt.Sprintf(`[{"time":%d,"value":%d}]`+"\n", hour.Unix(), i)
		for what, path := range map[string]string{
			"stat":  "/hourly/" + url.PathEscape(name) + "?verb=sum",
			"value": "/hourly/cpu?verb=sum&host=" + q,
			"tag":   "/hourly/ram?verb=sum&" + q + "=x",
		} {
			if what == "stat" && name == "cpu" || what == "tag" && (name == "start" || name == "n") {
				continue
			}
			if a := e.get(t, path); a.status != 200 || a.body != want {
				t.Errorf("%q as a %s: %d %s want %s", name, what, a.status, a.body, want)
			}
		}
	}
	rows, err := e.store.Query(context.Background(), "SHOW DATABASES", nil)
	if err != nil || len(rows) != 1 || len(rows[0].Values) != 1 {
		t.Errorf("databases: %v %v", rows, err)
	}
}
