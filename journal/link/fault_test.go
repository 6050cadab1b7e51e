package link

import (
	"context"
	"math/rand/v2"
	"net"

	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
)

// The link is cut in the middle of anything, falls silent, and both ends restart at any time, while
// events come. In the end the hub has each once, in order.
func TestFaults(t *testing.T) {
	const rounds = 12
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	hub.listen()
	p := newProxy(t, hub.addr)
	edge.connect(p.addr())
	ctx := context.Background()
	for range rounds {
		for range 1 + rng.IntN(4) {
			edge.make(1 + rng.IntN(3000))
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond) // when it strikes is what is played
			switch rng.IntN(5) {
			case 0:
				p.cutAll(false)
			case 1:
				hub.stopLink(ctx)
				hub.listen()
			case 2:
				edge.stopLink(ctx)
				edge.connect(p.addr())
			case 3:
				hub.close()
				hub.open()
				hub.listen()
			case 4:
				p.dig()
				edge.make(500)
				time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
				p.fill()
			}
		}
	}
	edge.level()
	want := texts(t, edge.content(""))
	hub.same("ams1", want)
	if e := hub.edge("ams1"); len(e.Gaps)+len(e.Begun) > 0 {
		t.Errorf("the hub says %+v", e)
	}
}

// A link that is silently dead is noticed by both ends, and made again soon after it could be.
func TestBlackHole(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	hub.listen()
	p := newProxy(t, hub.addr)
	edge.connect(p.addr())
	edge.make(10)
	edge.level()
	p.dig()
	eventually(t, "both ends notice", func() bool {
		return edge.uplink.Status().State == StateConnecting && hub.edge("ams1").State == StateSilent
	})
	if s := edge.uplink.Status(); !strings.Contains(s.Error, "nothing was heard") {
		t.Errorf("%+v", s)
	}
	if e := hub.edge("ams1"); e.Heard.IsZero() || e.Since != e.Heard {
		t.Errorf("%+v", e)
	}
	edge.make(10)
	p.fill()
	back := time.Now()
	edge.level()
	if took := time.Since(back); took > 3*time.Second {
		t.Errorf("the link was back after %v", took)
	}
	hub.same("ams1", texts(t, edge.content("")))
}

// slow is the journal of a hub that takes its time to find an edge's newest event.
type slow struct {
	Journal
	calls atomic.Int64
}

func (s *slow) LastOf(ctx context.Context, edge string) (journal.Record, bool, error) {
	s.calls.Add(1)
	time.Sleep(edgeIdle + time.Second) // that it lasts longer than a silence is what is played
	return s.Journal.LastOf(ctx, edge)
}

// A hub that is busy is not taken for dead: the edge waits for what it has to say.
func TestBusyHub(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	j := &slow{Journal: hub.j}
	if hub.hub, err = NewHub(HubOptions{Listener: l, Journal: j, DB: hub.db, Tokens: tokens, Logger: testLog(t, "hub")}); err != nil {
		t.Fatal(err)
	}
	hub.hub.Start()
	edge.make(10)
	edge.connect(l.Addr().String())
	edge.level()
	if n := j.calls.Load(); n != 1 {
		t.Errorf("the hub was asked %d times", n)
	}
	hub.same("ams1", texts(t, edge.content("")))
}

// full is the journal of a hub whose disk is full.
type full struct{ Journal }

func (full) AppendInOrder(context.Context, []journal.Record) (int, error) {
	return 0, journal.ErrDiskFull
}

// A hub that cannot store events says so, and the edge shows it.
func TestHubIsFull(t *testing.T) {
	hub, edge := newNode(t, "hub"), newNode(t, "ams1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if hub.hub, err = NewHub(HubOptions{Listener: l, Journal: full{hub.j}, DB: hub.db, Tokens: tokens, Logger: testLog(t, "hub")}); err != nil {
		t.Fatal(err)
	}
	hub.hub.Start()
	edge.make(10)
	edge.connect(l.Addr().String())
	eventually(t, "the edge shows why", func() bool {
		s := edge.uplink.Status()
		return s.State == StateRefused && strings.Contains(s.Error, "the hub cannot take events now") && s.HubHas == 0
	})
}
