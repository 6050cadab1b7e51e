package link

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// nowhere is the journal of a hub that keeps nothing.
type nowhere struct{ taken atomic.Int64 }

func (n *nowhere) AppendInOrder(_ context.Context, records []journal.Record) (int, error) {
	n.taken.Add(int64(len(records)))
	return len(records), nil
}
func (n *nowhere) LastOf(context.Context, string) (journal.Record, bool, error) {
	return journal.Record{}, false, nil
}
func (n *nowhere) NextOf(context.Context, string, uint64) (journal.Record, bool, error) {
	return journal.Record{}, false, nil
}
func (n *nowhere) LastSeq() uint64 { return 0 }
func (n *nowhere) State(context.Context) (journal.State, error) {
	return journal.State{FirstSeq: 1}, nil
}

// BenchmarkEdgeJournal is the speed of an edge's journal, fsynced, with 256 events of ten readings on
// their way at a time: with a reader beside it, as every Pulse has, and with a link too. The hub keeps
// nothing: hubs are elsewhere.
func BenchmarkEdgeJournal(b *testing.B) {
	for _, way := range []string{"read", "read and link", "read and link down"} {
		b.Run(way, func(b *testing.B) {
			n := newNode(b, "ams1")
			reader, err := n.j.ReadFrom(1)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					if _, err := reader.Read(ctx, 1000); err != nil {
						return
					}
				}
			})
			var to nowhere
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			db, err := bbolt.Open(n.dir+"/hub.db", 0o600, nil)
			if err != nil {
				b.Fatal(err)
			}
			hub, err := NewHub(HubOptions{Listener: l, Journal: &to, DB: db, Tokens: tokens})
			if err != nil {
				b.Fatal(err)
			}
			if way == "read and link" {
				hub.Start()
			} else if err := hub.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
			if way != "read" {
				n.connect(l.Addr().String())
			}
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var appenders sync.WaitGroup
			for i := range 256 {
				appenders.Go(func() {
					e := &codec.Event{Relay: "web" + string(rune('a'+i%26)), Time: 1795416970017829163}
					for k := range 10 {
						name := "stat_" + string(rune('0'+k))
						e.Collectors = append(e.Collectors, codec.Collector{Name: name, Tags: []string{"service:web"}, Stats: []codec.Stat{{ID: name, Value: float64(k) + 0.0042}}})
					}
					for left.Add(-1) >= 0 {
						if _, err := n.j.Append(context.Background(), e); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			appenders.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(to.taken.Load())/float64(b.N), "taken")
			cancel()
			wg.Wait()
			if way == "read and link" {
				if err := hub.Stop(context.Background()); err != nil {
					b.Error(err)
				}
			}
			if err := db.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
