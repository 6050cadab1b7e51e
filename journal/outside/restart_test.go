package outside

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nanopack/pulse/journal/codec"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/journal"
)

// childDir is set in a child process, which appends to the journal in that directory.
const childDir = "PULSE_OUTSIDE_DIR"

// child appends without end, lets clients in, and prints their address.
func child() {
	c, err := New(context.Background(), Options{Address: "127.0.0.1:0", User: "pulse", Password: outsidePassword})
	if err != nil {
		panic(err)
	}
	j, err := journal.Open(context.Background(), journal.Options{Dir: os.Getenv(childDir), Outside: c})
	if err != nil {
		panic(err)
	}
	fmt.Println(c.Addr())
	for i := 0; ; i++ {
		if _, err := j.Append(context.Background(), sample("web1", i)); err != nil {
			panic(err)
		}
	}
}

var archive = jetstream.ConsumerConfig{Durable: "archive", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute}

// A client's durable consumer survives a kill -9 and continues. Events whose acknowledgement the
// server had not stored yet may come again, but no event is left out.
func TestOutsideDurableSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	next := uint64(1)
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect("nats://"+strings.TrimSpace(addr), nats.UserInfo("pulse", outsidePassword))
		if err != nil {
			t.Fatal(err)
		}
		s := stream(t, nc)
		var c jetstream.Consumer
		if round == 0 {
			c, err = s.CreateConsumer(patient(t), archive)
		} else {
			c, err = s.Consumer(t.Context(), "archive")
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		seqs := take(t, c, 60)
		if seqs[0] > next {
			t.Errorf("round %d begins with %d; %d would have been the next", round, seqs[0], next)
		}
		for i, seq := range seqs {
			if seq != seqs[0]+uint64(i) {
				t.Fatalf("round %d: %d behind %d", round, seq, seqs[i-1])
			}
		}
		next = seqs[len(seqs)-1] + 1
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		nc.Close()
	}
}

// After a clean restart the consumer continues exactly at its position.
func TestOutsideDurableSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	next := uint64(1)
	for range 3 {
		j := openOutside(t, dir, Options{})
		appendN(t, j, "web1", 0, 50)
		c, err := stream(t, client(t, j)).CreateOrUpdateConsumer(patient(t), archive)
		if err != nil {
			t.Fatal(err)
		}
		for _, seq := range take(t, c, 50) {
			if seq != next {
				t.Fatalf("%d instead of %d", seq, next)
			}
			next++
		}
		closeJournal(t, j)
	}
}

// restart makes the journal restart its server: another writer appends to the stream, so that the
// next number is not the one that the journal expects.
func restart(t *testing.T, j *opened) {
	t.Helper()
	run := j.current()
	if _, err := run.JetStream.Publish(t.Context(), codec.ReadingsSubject+"web1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), sample("web1", 0)); !errors.Is(err, journal.ErrUnknown) {
		t.Fatal(err)
	}
	eventually(t, "the journal is back", func() bool { r := j.current(); return r != nil && r != run && j.Healthy() == nil })
}

// When the journal's server is restarted, clients find the listener at the same address, with their
// durable consumers.
func TestOutsideSurvivesRestartInside(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	addr := j.Addr().String()
	appendN(t, j, "web1", 0, 20)
	nc := client(t, j)
	c, err := stream(t, nc).CreateConsumer(patient(t), archive)
	if err != nil {
		t.Fatal(err)
	}
	take(t, c, 20)
	live, err := nc.SubscribeSync("pulse.live.web1.cpu")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		restart(t, j)
		last := appendN(t, j, "web1", 100, 20)
		if j.Addr().String() != addr {
			t.Errorf("the address is %v", j.Addr())
		}
		for seq := uint64(0); seq < last; {
			seqs := take(t, c, 1)
			seq = seqs[0]
		}
		if info, err := c.Info(t.Context()); err != nil || info.AckFloor.Stream != last {
			t.Errorf("round %d: %+v %v; %d is the last", round, info, err, last)
		}
		eventually(t, "somebody listens again", j.Wanted)
		if err := j.Publish("pulse.live.web1.cpu", []byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := live.NextMsg(10 * time.Second); err != nil {
			t.Error(err)
		}
	}
}

// thief takes the clients' port after the server has stopped and before it starts again.
type thief struct {
	*Clients
	t     *testing.T
	taken net.Listener
}

func (s *thief) Configure(opts *server.Options, password string) (exports, accounts string) {
	if addr := s.Addr(); addr != nil {
		l, err := net.Listen("tcp", addr.String())
		if err != nil {
			s.t.Errorf("the port is not free: %v", err)
		}
		s.taken = l
	}
	return s.Clients.Configure(opts, password)
}

// If another program takes the port during a restart of the server, only outside clients cannot
// connect.
func TestOutsidePortTakenDuringRestart(t *testing.T) {
	thief := &thief{t: t}
	j := openWith(t, t.TempDir(), Options{Address: freeport.Of(t), User: "pulse", Password: outsidePassword}, func(c *Clients) journal.Outside {
		thief.Clients = c
		return thief
	})
	appendN(t, j, "web1", 0, 5)
	restart(t, j)
	appendN(t, j, "web1", 0, 5)
	if nc, err := tryClient(j); err == nil {
		nc.Close()
		t.Error("a client is let in")
	}
	if err := thief.taken.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "outside clients are let in again", func() bool {
		nc, err := tryClient(j)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// If a journal has lost its last events, a durable consumer beyond the new last sequence is set
// back to it, so that it skips no new event.
func TestOutsideDurableBehindTheEnd(t *testing.T) {
	dir := t.TempDir()
	j := openOutside(t, dir, Options{})
	appendN(t, j, "web1", 0, 40)
	unacknowledged := jetstream.ConsumerConfig{Durable: "other", AckPolicy: jetstream.AckNonePolicy}
	for _, cfg := range []jetstream.ConsumerConfig{archive, unacknowledged} {
		c, err := stream(t, client(t, j)).CreateConsumer(patient(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		take(t, c, 40)
	}
	closeJournal(t, j)
	msgs := filepath.Join(dir, "jetstream", journal.Account, "streams", journal.StreamName, "msgs")
	if err := os.Remove(filepath.Join(msgs, "index.db")); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(msgs, "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(msgs, "1.blk"), fi.Size()/2); err != nil {
		t.Fatal(err)
	}
	j = openOutside(t, dir, Options{})
	st, err := j.State(t.Context())
	if err != nil || st.LastSeq >= 40 || st.LastSeq == 0 {
		t.Fatalf("%+v %v", st, err)
	}
	first := appendN(t, j, "web1", 100, 1)
	for _, name := range []string{archive.Durable, unacknowledged.Durable} {
		c, err := stream(t, client(t, j)).Consumer(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if seqs := take(t, c, 1); seqs[0] != first {
			t.Errorf("the next event of %s is %d instead of %d", name, seqs[0], first)
		}
	}
}
