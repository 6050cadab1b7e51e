package mist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/mist/misttest"
)

// TestMistStallsWhileReading checks that, when mist stops reading in the middle of a line, the
// whole line is sent again on the next connection, and nothing is published twice.
func TestMistStallsWhileReading(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			if c.N > 1 {
				misttest.Honest(c)
				return
			}
			if c.Serve(4) != nil { // a ping and three readings
				t.Error("the connection ended early")
			}
			if _, err := c.Read(make([]byte, 10)); err != nil { // part of a line, unless it is buffered
				t.Error(err)
			}
			c.Stall()
		})
		r := newRig(t, server, mist.Options{})
		r.apply(1, 2000) // more than the buffer of the test mist
		r.start()
		sleep(4 * time.Second)
		r.apply(2001, 5) // Apply must not wait
		if s := r.Status(); !s.Connected || s.Queued < 1000 {
			t.Errorf("status %+v", s)
		}
		sleep(2 * time.Second) // the write fails after 5 s, the next connection comes within 250 ms
		if s := r.Status(); !s.Connected || server.Accepted() != 2 {
			t.Errorf("status %+v", s)
		}
		var got []int
		for _, m := range server.Published() {
			var v int
			if _, err := fmt.Sscan(m.Data, &v); err != nil {
				t.Fatal(err)
			}
			got = append(got, v)
		}
		// The readings in mist's own buffer were lost when mist stalled.
		if !slices.Equal(got[:3], numbers(1, 3)) || got[len(got)-1] != 2005 || !slices.IsSorted(got) || len(slices.Compact(got)) != len(got) || len(got) < 1900 {
			t.Errorf("mist got %d: %v ... %v", len(got), got[:5], got[len(got)-3:])
		}
		r.wantMetric(2005, "published_total")
		r.stop()
	})
}

// TestMistStallsAndWhatIsOldByThenIsNotSent is the same test with a stall longer than MaxAge.
func TestMistStallsAndWhatIsOldByThenIsNotSent(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			_ = c.Serve(1)
			c.Stall()
		})
		r := newRig(t, server, mist.Options{MaxAge: 2 * time.Second}).start()
		synctest.Wait()
		r.apply(1, 10)
		sleep(4 * time.Second)
		server.Script(misttest.Honest)
		r.apply(11, 1)
		sleep(1500 * time.Millisecond)
		r.wantValues(11)
		r.wantMetric(10, "dropped_total", "old")
		r.stop()
	})
}

func TestMistDoesNotAnswer(t *testing.T) {
	t.Run("at first", func(t *testing.T) {
		bubble(t, "", func(t *testing.T, server *misttest.Mist) {
			server.Script(func(c *misttest.Conn) {
				for {
					if _, err := c.Next(); err != nil {
						return
					}
				}
			})
			r := newRig(t, server, mist.Options{}).start()
			r.apply(1, 1)
			sleep(5100 * time.Millisecond)
			if s := r.Status(); s.Connected || !strings.Contains(s.LastError, "does not answer") {
				t.Errorf("status %+v", s)
			}
			r.stop()
			r.wantValues() // no readings go to a server that may not be mist
		})
	})
	t.Run("any more", func(t *testing.T) {
		bubble(t, "", func(t *testing.T, server *misttest.Mist) {
			server.Script(func(c *misttest.Conn) {
				_ = c.Serve(3)
				for {
					if _, err := c.Next(); err != nil {
						return
					}
				}
			})
			r := newRig(t, server, mist.Options{MaxAge: 20 * time.Second}).start()
			sleep(39 * time.Second) // pings at 0, 10 and 20 s are answered, at 30 s not
			if s := r.Status(); !s.Connected {
				t.Errorf("status %+v", s)
			}
			sleep(1500 * time.Millisecond)
			r.wantMetric(1, "failures_total")
			r.wantMetric(1, "reconnects_total")
			r.stop()
		})
	})
}

func TestMistSendsGarbage(t *testing.T) {
	for name, garbage := range map[string]string{
		"http":  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request",
		"bytes": "\x00\xff\"\"pon\"pongo\n\n\n{{{{",
	} {
		t.Run(name+" instead of an answer", func(t *testing.T) {
			bubble(t, "", func(t *testing.T, server *misttest.Mist) {
				server.Script(func(c *misttest.Conn) {
					if _, err := c.Write([]byte(garbage)); err != nil {
						t.Error(err)
					}
					for {
						if _, err := c.Next(); err != nil {
							return
						}
					}
				})
				r := newRig(t, server, mist.Options{}).start()
				r.apply(1, 1)
				sleep(6 * time.Second)
				if s := r.Status(); s.Connected || !strings.Contains(s.LastError, "--mist-address") {
					t.Errorf("status %+v", s)
				}
				r.stop()
				r.wantValues()
			})
		})
		t.Run(name+" between the answers", func(t *testing.T) {
			bubble(t, "", func(t *testing.T, server *misttest.Mist) {
				server.Script(func(c *misttest.Conn) {
					for {
						if _, err := c.Write([]byte(garbage)); err != nil {
							return
						}
						if c.Serve(1) != nil {
							return
						}
					}
				})
				r := newRig(t, server, mist.Options{}).start()
				r.apply(1, 100)
				sleep(time.Minute)
				r.wantValues(numbers(1, 100)...)
				if s := r.Status(); !s.Connected || server.Accepted() != 1 {
					t.Errorf("status %+v", s)
				}
				r.stop()
			})
		})
	}
}

// TestMistAnswersInPieces checks that an answer is found wherever it begins and whatever comes
// before it.
func TestMistAnswersInPieces(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			for {
				if msg, err := c.Next(); err != nil {
					return
				} else if msg.Command != "ping" {
					continue
				}
				for _, b := range []byte(`{"tags":["pon"pong"`) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
				}
			}
		})
		r := newRig(t, server, mist.Options{}).start()
		sleep(time.Minute)
		if s := r.Status(); !s.Connected || server.Accepted() != 1 {
			t.Errorf("status %+v", s)
		}
		r.stop()
	})
}

func TestMistFloods(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			_ = c.Serve(1)
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
		r := newRig(t, server, mist.Options{}).start()
		synctest.Wait()
		if s := r.Status(); s.Connected || !strings.Contains(s.LastError, "more than it was asked for") {
			t.Errorf("status %+v", s)
		}
		r.stop()
	})
}

// TestMistMaySayMuch sends half a megabyte with every answer, and every reading back three times.
func TestMistMaySayMuch(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) {
			for {
				msg, err := c.Next()
				if err != nil {
					return
				}
				size := 3 * len(`{"command":"publish","tags":["host:host0","metrics","service:web1","stat_0"],"data":"1"}`)
				if msg.Command == "ping" {
					size = floodHalf
					_ = c.Pong()
				}
				if _, err := c.Write(make([]byte, size)); err != nil {
					return
				}
			}
		})
		r := newRig(t, server, mist.Options{}).start()
		for range 10 {
			sleep(time.Minute)
			r.apply(1, 2000)
		}
		sleep(time.Minute)
		if s := r.Status(); !s.Connected || s.Published != 20_000 || server.Accepted() != 1 {
			t.Errorf("status %+v after %d connections", s, server.Accepted())
		}
		r.stop()
	})
}
