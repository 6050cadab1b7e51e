package kapa

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// A Kapacitor of a hub has the hosts of edges in groups of their own, with the names that the
// built-in evaluator gives them. Without edges, its tasks are what they were.
func TestKapacitorTellsEdgesApart(t *testing.T) {
	for _, tt := range []struct {
		by, groups []string
		tags       map[string]string
		values     []string // as in group.values
	}{
		{[]string{"host"}, []string{"edge", "host"}, map[string]string{"host": "web1", "edge": "ams1"}, []string{"web1\x01ams1"}},
		{[]string{"host"}, []string{"edge", "host"}, map[string]string{"host": "web1", "edge": ""}, []string{"web1"}},
		{[]string{"dc", "host"}, []string{"dc", "edge", "host"}, map[string]string{"host": "web1", "edge": "ams1", "dc": "a"}, []string{"a", "web1\x01ams1"}},
		{[]string{"edge", "host"}, []string{"edge", "host"}, map[string]string{"host": "web1", "edge": "ams1"}, []string{"ams1", "web1\x01ams1"}},
		{[]string{"dc"}, []string{"dc"}, map[string]string{"dc": "a"}, []string{"a"}},
	} {
		a := sampleAlert().withDefaults()
		a.By = tt.by
		for _, edges := range []bool{true, false} {
			vars := variables(&a, asItIs, edges)
			want := tt.by
			if edges {
				want = tt.groups
			}
			var groups []string
			for _, v := range vars["groups"].Value.([]variable) {
				groups = append(groups, v.Value.(string))
			}
			if !reflect.DeepEqual(groups, want) {
				t.Errorf("by %v, edges %v: grouped by %v", tt.by, edges, groups)
			}
			if !edges {
				continue
			}
			var name strings.Builder
			parsed, err := template.New("").Parse(vars["name"].Value.(string))
			if err == nil {
				err = parsed.Execute(&name, map[string]any{"Tags": tt.tags})
			}
			if want := a.nameOf(tt.values); err != nil || name.String() != want {
				t.Errorf("by %v of %v is called %s (%v), want %s", tt.by, tt.tags, &name, err, want)
			}
		}
	}
	a := sampleAlert().withDefaults()
	a.By = []string{"host"}
	if got := variables(&a, asItIs, false)["name"].Value; got != `{{ "[" }}{{ "" }}{{ index .Tags "host" }}{{ "] cpu_used" }}` {
		t.Error(got)
	}
}

// Over hours in which links go down and come back, a trial posts what was posted: what an edge sends
// late sets no clock back.
func TestTrialOverEdges(t *testing.T) {
	for name, alert := range map[string]Alert{
		"hosts":   {Metric: "m", Threshold: 80, Duration: minute, By: []string{"host"}},
		"edges":   {Metric: "m", Threshold: 75, Duration: 7 * second, Every: 3 * second, By: []string{"edge"}},
		"deadman": {Metric: "m", Threshold: 99, Deadman: minute},
		"links":   {Metric: "m", Threshold: 99, Deadman: 30 * second, By: []string{"edge"}, Every: 10 * second},
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 7))
			alert.Post = "http://127.0.0.1/"
			s := newSim(t)
			s.create(alert)
			from := s.now
			edges := []string{"", "ams1", "fra1"}
			var down [3]int
			var waits [3][]journal.Record
			i := 0
			s.run(2*time.Hour, func() {
				i++
				for k, edge := range edges {
					if down[k] > 0 {
						down[k]--
					} else if edge != "" && random.IntN(400) == 0 {
						down[k] = random.IntN(300)
					}
					had := len(s.records)
					// A relay of the hub sends each second, and by it a trial knows the time: the journal does
					// not say when the record of an edge came.
					if edge == "" || i%5 == 0 {
						s.sendOf(edge, "web1", "m", wave(i+k*40)+random.Float64(), 0)
					}
					if random.IntN(900) == 0 {
						kind := []codec.RelayEventKind{codec.RelayRemoved, codec.RelayForgotten}[random.IntN(2)]
						s.relayOf(edge, kind, "web1", "c", 0)
					}
					waits[k] = append(waits[k], s.records[had:]...)
					s.records = s.records[:had]
					if down[k] > 0 {
						continue
					}
					for _, r := range waits[k] {
						r.Seq = uint64(len(s.records) + 1)
						if r.Event != nil {
							r.Event.Past = s.now.UnixNano()-r.Event.Time > int64(10*time.Second)
						}
						s.records = append(s.records, r)
					}
					waits[k] = nil
				}
			})
			got := s.try(alert, from, s.now)
			if posted := words(s.posts()); said(got) != posted || len(got.Posts) < 10 || !strings.Contains(posted, "edge:ams1") {
				t.Errorf("the trial posts\n%s\nand posted was\n%s", said(got), posted)
			}
		})
	}
}

// A real Kapacitor posts the hosts of edges each, under the names of the built-in evaluator.
func TestKapacitorOfAHub(t *testing.T) {
	influxd := startInflux(t)
	kapacitord := testtools.StartKapacitord(t, influxd.Addr, quiet)
	posts := make(chan message, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		posts <- m
	}))
	defer receiver.Close()
	a := startAlerts(t, Options{Kapacitor: kapacitord.Addr, Edges: true})
	v, err := a.Create(Alert{Metric: "m", Threshold: 80, By: []string{"host"}, Every: second, Duration: minute, Post: receiver.URL})
	if err != nil {
		t.Fatal(err)
	}
	waitState(t, a, v.ID, Executing)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	write := func() {
		t.Helper()
		resp, err := client.Post(influxd.Addr+"/write?db=statistics&rp=one_day", "text/plain",
			strings.NewReader("m,host=web1 m=85\nm,edge=ams1,host=web1 m=90\nm,edge=fra1,host=web1 m=10\n"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Fatal(resp.Status)
		}
	}
	got := map[string]string{}
	eventually(t, "two hosts are posted", func() bool {
		write()
		for {
			select {
			case m := <-posts:
				got[m.Message] = m.Data.Series[0].Tags["edge"]
			default:
				return len(got) >= 2
			}
		}
	})
	if want := map[string]string{"[web1] m is CRITICAL value:85": "", "[web1,edge:ams1] m is CRITICAL value:90": "ams1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}
