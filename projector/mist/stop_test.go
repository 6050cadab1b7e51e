package mist_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/mist/misttest"
)

// took runs f and returns how long f took, which is exact in a bubble.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func TestStopSendsWhatIsQueued(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		r := newRig(t, server, mist.Options{})
		r.apply(1, 3000)
		r.start() // the sink is not connected yet
		if d := took(r.stop); d > 100*time.Millisecond {
			t.Errorf("the stop took %v", d)
		}
		r.wantValues(numbers(1, 3000)...)
		r.stop() // a second Stop
		r.apply(1, 2)
		r.accounted()
		r.wantMetric(2, "dropped_total", "stopped")
	})
}

func TestStopWaitsASecondForAStalledMist(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			_ = c.Serve(1)
			c.Stall()
		})
		r := newRig(t, server, mist.Options{}).start()
		synctest.Wait()
		r.apply(1, 3000)
		if d := took(r.stop); d != time.Second {
			t.Errorf("the stop took %v", d)
		}
		if r.metric("dropped_total", "stopped") == 0 {
			t.Error("nothing was dropped")
		}
	})
}

// TestStopWaitsUntilMistHasReadEverything checks that Stop waits for mist's answer to a last ping.
func TestStopWaitsUntilMistHasReadEverything(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			_ = c.Serve(2)
			if m, err := c.Next(); err != nil || m.Command != "ping" {
				t.Errorf("mist was told %+v, %v", m, err)
			}
			time.Sleep(300 * time.Millisecond)
			_ = c.Pong()
			c.Stall()
		})
		r := newRig(t, server, mist.Options{}).start()
		r.apply(1, 1)
		synctest.Wait()
		if d := took(r.stop); d != 300*time.Millisecond {
			t.Errorf("the stop took %v", d)
		}
	})
}

func TestStopDoesNotWaitForAnAbsentMist(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string) (net.Conn, error){
		"refuses": func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") },
		"hangs":   func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		for _, readings := range []int{0, 5} {
			t.Run(name, func(t *testing.T) {
				bubble(t, "", func(t *testing.T, server *misttest.Mist) {
					r := newRig(t, server, mist.Options{Address: "mist:1445", Dial: dial}).start()
					sleep(2 * time.Second)
					r.apply(1, readings)
					want := time.Duration(0)
					if name == "hangs" && readings > 0 {
						want = time.Second // the connection may still come
					}
					if d := took(r.stop); d != want {
						t.Errorf("the stop took %v, want %v", d, want)
					}
					r.wantMetric(readings, "dropped_total", "stopped")
				})
			})
		}
	}
}

func TestStopIsCutShort(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			_ = c.Serve(1)
			c.Stall()
		})
		r := newRig(t, server, mist.Options{}).start()
		synctest.Wait()
		r.apply(1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if d := took(func() {
			if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}); d != 100*time.Millisecond {
			t.Errorf("the stop took %v", d)
		}
		r.accounted()
	})
}

func TestLifecycle(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		r := newRig(t, server, mist.Options{}).start()
		synctest.Wait()
		if r.Start() == nil {
			t.Error("it runs twice")
		}
		r.apply(1, 1)
		r.stop()
		r.wantValues(1)

		r = newRig(t, server, mist.Options{})
		r.apply(1, 1)
		r.stop()
		r.wantMetric(1, "dropped_total", "stopped")
		if r.Start() == nil {
			t.Error("it starts after a stop")
		}
		if n := server.Accepted(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}
