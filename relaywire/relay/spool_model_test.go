package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
)

// keeper is a server that keeps what it journaled, however often it is killed. Everything but mood
// belongs to the goroutine that calls serve.
type keeper struct {
	t       *testing.T
	rnd     *rand.Rand
	journal map[string]int    // readings, and how many times each is there
	has     map[string]extent // by verb: what the newest event of that kind says
	every   time.Duration     // between polls
	mood    atomic.Int32
	visits  atomic.Int32 // connections that are served
}

const (
	calm   int32 = iota // nothing bad happens
	wild                // connections break, the server ends, the journal refuses records
	absent              // nobody is there
)

// extent is a range of records of a spool.
type extent struct {
	id string
	relaywire.Record
}

func (e extent) kept() string { return fmt.Sprintf("kept %s %d-%d", e.id, e.First, e.Seq) }

func (k *keeper) bad(oneIn int) bool { return k.mood.Load() == wild && k.rnd.IntN(oneIn) == 0 }

// visit is one connection.
type visit struct {
	*keeper
	p       *peer
	id      string // of the spool; empty before its first line
	floor   uint64 // first record that a took event may name
	confirm extent // of took records, for the next poll
	batch   extent
	refused bool // a record of the batch
	owed    bool // a recall, for later
}

// serve polls the relays of s, one after the other, until ctx ends.
func (k *keeper) serve(ctx context.Context, s *server) {
	for {
		select {
		case p := <-s.peers:
			v := &visit{keeper: k, p: p, floor: 1}
			v.serve(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (v *visit) serve(ctx context.Context) {
	if line, ok := <-v.p.lines; !ok || line != "id web1" {
		return
	}
	v.tell("ok", "beat 30", "takes past", fmt.Sprint("every ", v.every.Seconds()))
	v.visits.Add(1)
	defer v.visits.Add(-1)
	polls := time.NewTicker(v.every)
	defer polls.Stop()
	for {
		select {
		case line, ok := <-v.p.lines:
			if !ok {
				return
			}
			v.hear(line)
			if v.bad(60) {
				v.p.hangUp() // what was sent before comes nevertheless
			}
		case <-polls.C:
			if v.bad(20) {
				time.Sleep(time.Duration(v.rnd.Int64N(int64(5 * v.every)))) // the server is slow
			}
			if v.mood.Load() == absent {
				v.p.hangUp()
			}
			if v.confirm.Seq > 0 {
				v.tell(v.confirm.kept())
				v.confirm = extent{}
			}
			v.tell("get cpu,ram")
			if v.owed && !v.bad(2) {
				v.owed = false
				v.tell("recall 10")
			}
		case <-ctx.Done():
			return
		}
	}
}

// tell says lines to a peer that may be gone.
func (v *visit) tell(lines ...string) {
	_ = v.p.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprint(v.p.conn, strings.Join(lines, "\n")+"\n")
}

func (v *visit) hear(line string) {
	m := relaywire.Parse([]byte(line))
	switch m.Verb {
	case relaywire.VerbPing:
		v.tell("pong")
	case relaywire.VerbAdd, relaywire.VerbRemove:
		v.tell("ok")
	case relaywire.VerbSpool:
		v.spool(m.Args)
	case relaywire.VerbTook:
		rec, items, err := relaywire.ParseTook(m.Args)
		rec.First = max(rec.First, min(v.floor, rec.Seq))
		if v.record("took", rec, items, err) {
			v.confirm = extent{v.id, rec}
		} else {
			if v.confirm.Seq > 0 {
				v.tell(v.confirm.kept())
			}
			v.floor, v.confirm = rec.Seq+1, extent{}
		}
	case relaywire.VerbPast:
		rec, _, items, err := relaywire.ParsePast(m.Args)
		if v.refused = v.refused || !v.record("past", rec, items, err); !v.refused {
			v.batch = extent{v.id, rec}
		}
	}
}

func (v *visit) spool(args []byte) {
	said, err := relaywire.ParseSpool(args)
	if err != nil {
		v.t.Errorf("spool %s: %v", args, err)
	}
	switch {
	case v.id == "":
		v.id = said.ID.String()
		for _, e := range v.has {
			if e.id == v.id {
				v.tell(e.kept())
			}
		}
	case v.batch.Seq > 0:
		v.tell(v.batch.kept())
	}
	v.owed = v.refused || said.Waiting > 0 && v.bad(5)
	v.batch, v.refused = extent{}, false
	if said.Waiting == 0 || v.owed {
		v.tell("recall 0")
		return
	}
	v.tell(fmt.Sprint("recall ", 1+v.rnd.IntN(40)))
}

// record puts a record into the journal unless that is full.
func (v *visit) record(kind string, rec relaywire.Record, items []byte, err error) bool {
	if err != nil || v.id == "" {
		v.t.Errorf("%s of %q: %v", kind, items, err)
	}
	if v.bad(15) {
		return false
	}
	for r := range relaywire.Readings(items) {
		if string(r.Stat) == string(r.Collector) {
			v.journal[string(r.Collector)+":"+strconv.FormatFloat(r.Value, 'f', -1, 64)]++
		}
	}
	v.has[kind] = extent{v.id, rec}
	return true
}

// TestSpoolModel kills connections, servers and relays, in every order, and counts afterwards: every
// reading that a relay collected is in the journal once. With long answers the spool gets full: what
// is not in the journal was dropped and counted.
func TestSpoolModel(t *testing.T) {
	for seed := range uint64(3) {
		for _, dir := range []bool{true, false} {
			for _, pad := range []string{"", strings.Repeat("x", 250)} {
				if pad != "" && seed > 0 {
					continue // slow
				}
				t.Run(fmt.Sprintf("seed=%d,dir=%v,full=%v", seed, dir, pad != ""), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { playModel(t, seed, dir, pad) })
				})
			}
		}
	}
}

func playModel(t *testing.T, seed uint64, dir bool, pad string) {
	rnd := rand.New(rand.NewPCG(seed, 14))
	k := &keeper{t: t, rnd: rand.New(rand.NewPCG(seed, 15)), journal: map[string]int{}, has: map[string]extent{}, every: time.Second}
	k.mood.Store(wild)
	s := pipes(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go k.serve(ctx, s)

	want := map[string]bool{}
	var alive atomic.Int64 // the number of the relay that may connect
	var r *relay.Relay
	var values [2]*rising
	conns := make(chan net.Conn, 10_000) // of the relay that lives
	o := relay.SpoolOptions{MaxBytes: 256 << 10}
	begin := func() {
		number := alive.Add(1)
		var err error
		r, err = relay.New(relay.Options{Address: s.addr, ID: "web1", Spool: &o, Dial: func(ctx context.Context, a string) (net.Conn, error) {
			if alive.Load() != number || k.mood.Load() == absent {
				return nil, errors.New("nobody there")
			}
			conn, err := s.dial(ctx, a)
			conns <- conn
			return conn, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"cpu", "ram"} {
			values[i] = &rising{pad: pad}
			values[i].n.Store(number * 1_000_000)
			add(t, r, name, values[i])
		}
	}
	// note notes what the relay has collected. Nothing is running then.
	note := func() {
		for i, name := range []string{"cpu", "ram"} {
			for n := alive.Load()*1_000_000 + 1; n <= values[i].n.Load(); n++ {
				want[fmt.Sprintf("%s:%d", name, n)] = true
			}
		}
	}
	if dir {
		o.Dir = t.TempDir()
	}
	begin()
	for range 30 {
		pause := time.Duration(rnd.IntN(60_000)) * time.Millisecond
		if pad != "" {
			pause *= 10
		}
		time.Sleep(pause)
		switch rnd.IntN(4) {
		case 0:
			k.mood.Store(absent)
		case 1, 2:
			k.mood.Store(wild)
		default:
			if !dir {
				continue
			}
			synctest.Wait()
			note()
			left := t.TempDir() // what a killed process leaves
			if err := os.CopyFS(left, os.DirFS(o.Dir)); err != nil {
				t.Fatal(err)
			}
			o.Dir = left
			old := r
			alive.Add(1) // the old one speaks to nobody any more
			for len(conns) > 0 {
				(<-conns).Close()
			}
			begin()
			t.Cleanup(func() { old.Close() })
		}
	}
	k.mood.Store(calm)
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	note()
	st := r.State()
	if st.Spool.Waiting != 0 || (st.Spool.Dropped != 0) != (pad != "") || st.Spool.Damaged != 0 || st.Spool.Failures != 0 || !st.Connected {
		t.Errorf("at the end: %+v", st)
	}
	lost, twice := 0, 0
	for reading := range want {
		switch n := k.journal[reading]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	dropped := int(st.Spool.Dropped)
	if pad != "" {
		dropped /= 2 // the pads are not in the journal
	}
	if dir && lost <= dropped {
		// What was sent by a relay that was killed, and not confirmed, could be dropped by the next.
		dropped = lost
	}
	if lost != dropped || twice > 0 || len(k.journal) != len(want)-lost {
		t.Errorf("of %d readings %d are lost and %d are there more than once; %d were dropped; %d are in the journal", len(want), lost, twice, dropped, len(k.journal))
	}
	if len(want) < 500 {
		t.Errorf("only %d readings, %+v", len(want), st.Spool)
	}
	r.Close()
}
