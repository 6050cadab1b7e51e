package mist_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/mist/misttest"
)

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// listen returns a publisher for a mist that listens on TCP. Both use the token.
func listen(t *testing.T, token string, o mist.Options) *rig {
	t.Helper()
	server := misttest.Listen(t, token)
	o.Address, o.Token = server.Addr(), token
	return newRig(t, server, o)
}

func TestTCP(t *testing.T) {
	r := listen(t, "secret", mist.Options{}).start()
	r.apply(1, 1000)
	r.server.WaitPublished(1000)
	r.server.Kick()
	eventually(t, "the loss to be noticed", func() bool { return r.metric("failures_total") > 0 })
	r.apply(1001, 1000)
	r.server.WaitPublished(2000)
	r.wantValues(numbers(1, 2000)...)
	r.wantMetric(1, "reconnects_total")
	r.stop()
}

func TestTCPRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		script misttest.Script
		want   string
	}{
		"closes at once":           {func(*misttest.Conn) {}, "--mist-token"},
		"resets":                   {func(c *misttest.Conn) { _, _ = c.Read(make([]byte, 1)) }, "--mist-token"},
		"closes in the middle":     {func(c *misttest.Conn) { _ = c.Serve(1); _, _ = c.Read(make([]byte, 1)) }, "closed the connection"},
		"closes half and goes on":  {func(c *misttest.Conn) { _ = c.Conn.(*net.TCPConn).CloseWrite(); c.Stall() }, "closed the connection"},
		"is something else, quick": {func(c *misttest.Conn) { _, _ = io.WriteString(c, "220 mail ESMTP\r\n") }, "--mist-address"},
	} {
		t.Run(name, func(t *testing.T) {
			r := listen(t, "", mist.Options{})
			r.server.Script(tt.script)
			r.start()
			r.apply(1, 100_000) // more than the socket buffers hold
			eventually(t, "a failure", func() bool { return r.metric("failures_total") > 0 })
			eventually(t, "an error that says "+tt.want, func() bool { return strings.Contains(r.Status().LastError, tt.want) })
			r.stop()
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		r := listen(t, "", mist.Options{})
		r.server.Close()
		r.start()
		eventually(t, "an error", func() bool { return strings.Contains(r.Status().LastError, "--mist-address") })
		r.stop()
	})
}

// TestTCPStall checks that a mist that stops reading delays neither Apply nor Stop.
func TestTCPStall(t *testing.T) {
	r := listen(t, "", mist.Options{Queue: 1000})
	r.server.Script(func(c *misttest.Conn) { _ = c.Serve(1); c.Stall() })
	r.start()
	eventually(t, "the connection", func() bool { return r.Status().Connected })
	began := time.Now()
	r.apply(1, 200_000) // 18 MB: more than the socket buffers hold
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("Apply took %v", d)
	}
	if s := r.Status(); s.Queued < 900 || r.metric("dropped_total", "full") == 0 {
		t.Errorf("status %+v", s)
	}
	r.stop()
}

// TestTCPNothingOldArrivesLater checks that readings in the kernel's buffer do not reach a stalled
// mist that reads again after the sink gave up the connection.
func TestTCPNothingOldArrivesLater(t *testing.T) {
	r := listen(t, "", mist.Options{MaxAge: 200 * time.Millisecond}) // a ping must be answered within 100 ms
	given, ended := make(chan struct{}), make(chan error, 1)
	r.server.Script(func(c *misttest.Conn) {
		_ = c.Serve(1)
		<-given
		_, err := io.Copy(io.Discard, c.Conn)
		ended <- err
	})
	r.start()
	eventually(t, "the connection", func() bool { return r.Status().Connected })
	r.apply(1, 1000)
	eventually(t, "a failure", func() bool { return r.metric("failures_total") > 0 })
	r.server.Script(misttest.Honest)
	close(given)
	if err := <-ended; err == nil {
		t.Error("the rest came, and then an orderly end")
	}
	r.stop()
}

// TestMistOnARealJournal runs the projection on a journal with a runner. The runner begins after
// the last record of the journal, and is not held up by a mist that is lost or one that stalls.
func TestMistOnARealJournal(t *testing.T) {
	j := journaltest.Open(t)
	r := listen(t, "secret", mist.Options{})
	next := 0
	appendEvents := func(n int) {
		t.Helper()
		for range n {
			next++
			journaltest.Append(t, j, journaltest.Event("web\"1", time.Now().UnixNano(), "cpu", []string{"service:a", "guy"}, codec.Stat{ID: "used", Value: float64(next)}))
		}
		r.applied += n
	}
	appendEvents(20)
	r.applied = 0 // the runner was not there yet
	runner, err := projector.NewRunner(projector.RunnerOptions{Projection: r.Sink, Journal: projector.FromJournal(j), Start: projector.FromEnd()})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer runner.Stop()
	appendEvents(100)
	if _, err := j.AppendRelayEvent(t.Context(), &codec.RelayEvent{Relay: "web1", Time: 1, Kind: codec.RelayConnected}); err != nil {
		t.Fatal(err)
	}
	first := r.server.WaitPublished(100)[0]
	if first.Data != "21" || strings.Join(first.Tags, " ") != `guy host:web"1 metrics service:a used` {
		t.Errorf("mist got %+v first", first)
	}
	r.server.Kick()
	eventually(t, "the loss to be noticed", func() bool { return r.metric("failures_total") > 0 })
	appendEvents(100)
	r.server.WaitPublished(200)
	r.wantValues(numbers(21, 220)...)

	r.server.Script(func(c *misttest.Conn) { _ = c.Serve(1); c.Stall() })
	r.server.Kick()
	r.server.WaitAccepted(3)
	appendEvents(100)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := runner.Drain(ctx); err != nil {
		t.Errorf("a stalled mist holds up the runner: %v", err)
	}
	if s := runner.Status(); s.Failures != 0 || s.Lag != 0 {
		t.Errorf("the runner's status is %+v", s)
	}
	r.stop()
	if r.Start() == nil {
		t.Error("it starts after the stop")
	}
}
