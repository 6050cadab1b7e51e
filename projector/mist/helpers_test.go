package mist_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/mist/misttest"
)

var (
	_ projector.Projection = (*mist.Sink)(nil)
	_ projector.Ticker     = (*mist.Sink)(nil)
)

// rig is a publisher with its mist, its metrics and its log.
type rig struct {
	*mist.Sink
	t        *testing.T
	server   *misttest.Mist
	registry *prometheus.Registry
	log      *logtest.Buffer
	seq      uint64
	applied  int // the number of readings
}

// newRig makes a publisher for a mist and starts nothing. The connection is in memory if the mist
// does not listen.
func newRig(t *testing.T, server *misttest.Mist, o mist.Options) *rig {
	t.Helper()
	r := &rig{t: t, server: server, registry: prometheus.NewRegistry(), log: new(logtest.Buffer)}
	if o.Address == "" {
		o.Address, o.Dial = "mist:1445", server.Dial
	}
	o.Registerer, o.Logger = r.registry, slog.New(slog.NewTextHandler(r.log, nil))
	m, err := mist.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Sink = m
	return r
}

func (r *rig) start() *rig {
	r.t.Helper()
	if err := r.Start(); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// apply applies n events of one reading each, with the values first, first+1, ... and the current
// time.
func (r *rig) apply(first, n int) {
	r.t.Helper()
	for i := range n {
		r.applyValues(float64(first + i))
	}
}

// applyValues applies an event for each value.
func (r *rig) applyValues(values ...float64) {
	r.t.Helper()
	for _, v := range values {
		r.seq++
		e := journaltest.Event("host0", time.Now().UnixNano(), "c", []string{"service:web1"}, codec.Stat{ID: "stat_0", Value: v})
		if position, err := r.Apply(r.t.Context(), []journal.Record{{Seq: r.seq, Event: e}}); err != nil || position != r.seq {
			r.t.Fatalf("Apply returned %d, %v", position, err)
		}
	}
	r.applied += len(values)
}

// stop stops the publisher, checks that this does not take too long, and that every reading is
// accounted for.
func (r *rig) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	began := time.Now()
	if err := r.Stop(ctx); err != nil {
		r.t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		r.t.Errorf("the stop took %v", took)
	}
	r.accounted()
}

func (r *rig) accounted() {
	r.t.Helper()
	s := r.Status()
	published, old, full, stopped := r.metric("published_total"), r.metric("dropped_total", "old"), r.metric("dropped_total", "full"), r.metric("dropped_total", "stopped")
	if published+old+full+stopped+s.Queued != r.applied || int(s.Published) != published || int(s.Dropped) != old+full+stopped {
		r.t.Errorf("of %d readings %d were published, %d were too old, %d too many, %d left at the stop, %d are queued; status %+v", r.applied, published, old, full, stopped, s.Queued, s)
	}
}

// metric returns the value of a metric, with the label reason if one is given.
func (r *rig) metric(name string, reason ...string) int {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "pulse_projector_mist_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(reason) == 0 || m.GetLabel()[0].GetValue() == reason[0] {
				return int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	r.t.Fatalf("there is no metric %s %v", name, reason)
	return 0
}

func (r *rig) wantMetric(want int, name string, reason ...string) {
	r.t.Helper()
	if got := r.metric(name, reason...); got != want {
		r.t.Errorf("%s %v is %d, want %d", name, reason, got, want)
	}
}

// wantValues checks that mist got exactly these values, in this order.
func (r *rig) wantValues(want ...int) {
	r.t.Helper()
	var got []string
	for _, m := range r.server.Published() {
		got = append(got, m.Data)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("mist got %v, want %v", got, want)
	}
}

func numbers(from, to int) (list []int) {
	for i := from; i <= to; i++ {
		list = append(list, i)
	}
	return list
}

// bubble runs a test in a synctest bubble, with a mist in memory.
func bubble(t *testing.T, token string, f func(t *testing.T, server *misttest.Mist)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, misttest.Pipe(t, token)) })
}

// sleep lets d pass in a bubble, and then waits until all goroutines are blocked.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
