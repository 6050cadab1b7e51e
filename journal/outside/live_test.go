package outside

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal/codec"
)

func TestLive(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	live := j.Clients
	nc := client(t, j)
	for _, subject := range []string{"pulse.readings.>", "_INBOX.x.*", "pulse.relays.a"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"pulse.live.web1.cpu", "pulse.ams1.live.web1.cpu"} {
		if live.WantedSubject(subject) {
			t.Errorf("somebody listens to other subjects, and %s is wanted", subject)
		}
	}
	for pattern, heard := range map[string][2]bool{"pulse.live.web1.cpu": {true, false}, "pulse.live.*.cpu": {true, false}, "pulse.live.web1.*": {true, true},
		"pulse.live.>": {true, true}, "pulse.>": {true, true}} {
		sub, err := nc.SubscribeSync(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if !live.Wanted() || live.WantedSubject("pulse.live.web1.cpu") != heard[0] || live.WantedSubject("pulse.live.web1.ram") != heard[1] {
			t.Errorf("%s: wanted %v, cpu %v, ram %v", pattern, live.Wanted(), live.WantedSubject("pulse.live.web1.cpu"), live.WantedSubject("pulse.live.web1.ram"))
		}
		if err := live.Publish("pulse.live.web1.cpu", []byte("1")); err != nil {
			t.Fatal(err)
		}
		if m, err := sub.NextMsg(10 * time.Second); err != nil || m.Subject != "pulse.live.web1.cpu" || string(m.Data) != "1" {
			t.Errorf("%s: %v %v", pattern, m, err)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if live.WantedSubject("pulse.live.web1.cpu") {
			t.Errorf("%s is unsubscribed and still wanted", pattern)
		}
	}
	closeJournal(t, j)
	if live.Wanted() || live.Publish("pulse.live.a.b", nil) == nil {
		t.Error("somebody listens to a closed journal")
	}
}

// Ids of any bytes become tokens that outside clients can subscribe to and read events by.
func TestOutsideAwkwardIds(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	nc := client(t, j)
	s := stream(t, nc)
	for _, id := range awkwardIDs() {
		subject := codec.ReadingsSubject + codec.Token(id)
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		seq := appendN(t, j, id, 0, 1)
		if m, err := sub.NextMsg(10 * time.Second); err != nil || m.Subject != subject {
			t.Fatalf("%q: %v %v", id, m, err)
		}
		if m, err := s.GetLastMsgForSubject(t.Context(), subject); err != nil || m.Sequence != seq {
			t.Fatalf("%q: %v %v", id, m, err)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}

// awkwardIDs returns ids that hold every byte, and the characters with a meaning in subjects.
func awkwardIDs() []string {
	ids := []string{"*", ">", ".", "..", "a.b", "$JS.API.>", "%", "a b", "\r\nPUB x 0\r\n"}
	for first := 0; first < 256; first += 32 {
		id := make([]byte, 32)
		for i := range id {
			id[i] = byte(first + i)
		}
		ids = append(ids, string(id))
	}
	return ids
}

func BenchmarkLiveWanted(b *testing.B) {
	j := openOutside(b, b.TempDir(), Options{})
	b.Run("nobody", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if j.Wanted() {
				b.Fatal("wanted")
			}
		}
	})
	nc := client(b, j)
	if _, err := nc.Subscribe("pulse.live.other.cpu", func(*nats.Msg) {}); err != nil {
		b.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		b.Fatal(err)
	}
	b.Run("subject", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if j.WantedSubject("pulse.live.web1.cpu") {
				b.Fatal("wanted")
			}
		}
	})
}

// BenchmarkAppendOutside appends with and without an outside client that reads everything or
// nothing.
func BenchmarkAppendOutside(b *testing.B) {
	for _, who := range []string{"nobody", "subscriber", "sleeper", "attacker"} {
		b.Run(who, func(b *testing.B) {
			j := openOutside(b, b.TempDir(), Options{})
			switch who {
			case "subscriber":
				if _, err := client(b, j).Subscribe("pulse.>", func(*nats.Msg) {}); err != nil {
					b.Fatal(err)
				}
			case "sleeper": // does not read its socket
				raw := dialRaw(b, j)
				if _, err := fmt.Fprint(raw, "SUB pulse.> 1\r\nPING\r\n"); err != nil {
					b.Fatal(err)
				}
				raw.expect("PONG")
			case "attacker": // sends requests without end
				nc := client(b, j)
				stop := make(chan struct{})
				b.Cleanup(func() { close(stop) })
				go func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
							_ = nc.PublishRequest("$JS.API.CONSUMER.CREATE.PULSE", "_INBOX.x", []byte(`{"stream_name":"PULSE","config":{}}`)) // until the end
							if i%100 == 0 {
								_ = nc.Flush() // until the end
							}
						}
					}
				}()
			}
			e := sample("web1", 1)
			b.SetParallelism(128)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := j.Append(b.Context(), e); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
