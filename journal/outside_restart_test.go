package journal

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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func init() { children["outside"] = outsideChild }

// outsideChild appends without end behind an open door, and says where that is.
func outsideChild() {
	j, err := Open(context.Background(), Options{Dir: os.Getenv("PULSE_JOURNAL_DIR"),
		Outside: &Outside{Address: "127.0.0.1:0", User: "pulse", Password: outsidePassword}})
	if err != nil {
		panic(err)
	}
	fmt.Println(j.OutsideAddr())
	for i := 0; ; i++ {
		if _, err := j.Append(context.Background(), sample("web1", i)); err != nil {
			panic(err)
		}
	}
}

var archive = jetstream.ConsumerConfig{Durable: "archive", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute}

// A durable consumer of somebody else is there after a kill -9, and goes on: what it acknowledged may come again, as
// far as the server had not written it down, but nothing is left out.
func TestOutsideDurableSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	next := uint64(1)
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PULSE_JOURNAL_CHILD=outside", "PULSE_JOURNAL_DIR="+dir)
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

// And after a clean restart, exactly where it was.
func TestOutsideDurableSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	next := uint64(1)
	for range 3 {
		j := openOutside(t, Options{Dir: dir})
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

// breakWrites makes the next fsync of the journal fail once.
type breaking struct{ next atomic.Bool }

func (b *breaking) fsync(f *os.File) error {
	if b.next.CompareAndSwap(true, false) {
		return errors.New("broken by the test")
	}
	return f.Sync()
}

// When the server inside is restarted clients find the door at the same place, and their durable consumers in it.
func TestOutsideSurvivesRestartInside(t *testing.T) {
	var disk breaking
	j := openOutside(t, Options{fsync: disk.fsync, retryMin: 10 * time.Millisecond})
	addr := j.OutsideAddr().String()
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
		run := j.runs.current()
		disk.next.Store(true)
		_, _ = j.Append(t.Context(), sample("web1", 0)) // it may be settled as stored
		eventually(t, "the journal is back", func() bool { r := j.runs.current(); return r != nil && r != run && j.Healthy() == nil })
		last := appendN(t, j, "web1", 100, 20)
		if j.OutsideAddr().String() != addr {
			t.Errorf("the address is %v", j.OutsideAddr())
		}
		for seq := uint64(0); seq < last; {
			seqs := take(t, c, 1)
			seq = seqs[0]
		}
		if info, err := c.Info(t.Context()); err != nil || info.AckFloor.Stream != last {
			t.Errorf("round %d: %+v %v; %d is the last", round, info, err, last)
		}
		eventually(t, "somebody listens again", j.Live().Wanted)
		if err := j.Live().Publish("pulse.live.web1.cpu", []byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := live.NextMsg(10 * time.Second); err != nil {
			t.Error(err)
		}
	}
}

// Somebody else who takes the port during a restart inside keeps outside clients away, and nobody else.
func TestOutsidePortTakenDuringRestart(t *testing.T) {
	var disk breaking
	var j *Journal
	var mu sync.Mutex
	var thief net.Listener
	steal := func(f *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		if j != nil && thief == nil && j.runs.current() == nil {
			// The port is free once the old server is gone, which it is when the next one syncs what it found.
			if l, err := net.Listen("tcp", j.OutsideAddr().String()); err == nil {
				thief = l
			}
		}
		return disk.fsync(f)
	}
	opened := openOutside(t, Options{fsync: steal, retryMin: 10 * time.Millisecond})
	mu.Lock()
	j = opened
	mu.Unlock()
	appendN(t, opened, "web1", 0, 5)
	run := opened.runs.current()
	disk.next.Store(true)
	_, _ = opened.Append(t.Context(), sample("web1", 0)) // it may be settled as stored
	eventually(t, "the journal is back", func() bool {
		r := opened.runs.current()
		return r != nil && r != run && opened.Healthy() == nil
	})
	appendN(t, opened, "web1", 0, 5)
	mu.Lock()
	stolen := thief
	mu.Unlock()
	if stolen == nil {
		t.Fatal("the port was not free")
	}
	if err := stolen.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "outside clients are let in again", func() bool {
		nc, err := tryClient(opened)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// A durable consumer that stands behind the end of a journal that lost it is set back to the new one: it passes over no
// event that comes.
func TestOutsideDurableBehindTheEnd(t *testing.T) {
	dir := t.TempDir()
	j := openOutside(t, Options{Dir: dir})
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
	msgs := filepath.Join(streamDir(dir), "msgs")
	if err := os.Remove(filepath.Join(msgs, "index.db")); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(blockPath(msgs, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blockPath(msgs, 1), fi.Size()/2); err != nil {
		t.Fatal(err)
	}
	j = openOutside(t, Options{Dir: dir})
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
