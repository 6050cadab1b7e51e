package relay_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
)

// The variables of the process that TestSpoolKill9 starts again and again.
const (
	killAddress = "RELAY_TEST_ADDRESS"
	killDir     = "RELAY_TEST_DIR"
	killFirst   = "RELAY_TEST_FIRST"
)

// spoolProcess is a relay for TestSpoolKill9, in a process of its own. It writes what it collects to
// its output.
func spoolProcess() error {
	n, err := strconv.Atoi(os.Getenv(killFirst))
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Options{Address: os.Getenv(killAddress), ID: "web1", Spool: &relay.SpoolOptions{Dir: os.Getenv(killDir)}})
	if err != nil {
		return err
	}
	err = r.AddCollector("cpu", nil, relay.NewPointCollector(func() float64 {
		n++
		fmt.Fprintf(os.Stderr, "collected %d\n", n)
		return float64(n)
	}))
	if err != nil {
		return err
	}
	select {} // until it is killed
}

// TestSpoolKill9 kills the process of a relay at any moment, and its connections, and the server,
// and counts afterwards: every reading is in the journal once. Only the last one of a process may
// be lost, because the process may end between collecting it and writing it down.
func TestSpoolKill9(t *testing.T) {
	k := &keeper{t: t, rnd: rand.New(rand.NewPCG(1, 2)), journal: map[string]int{}, has: map[string]extent{}, every: 20 * time.Millisecond}
	k.mood.Store(wild)
	s, _ := listen(t, "")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { defer close(served); k.serve(ctx, s) }()

	dir := t.TempDir()
	last := map[int]bool{} // the last value of each process
	collected := 0
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killAddress+"="+s.addr, killDir+"="+dir, fmt.Sprintf("%s=%d", killFirst, collected))
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		enough := 10 + rnd.IntN(40)
		n := 0
		for in := bufio.NewScanner(out); in.Scan(); {
			v, ok := strings.CutPrefix(in.Text(), "collected ")
			if !ok {
				continue
			}
			if collected, err = strconv.Atoi(v); err != nil {
				t.Fatal(err)
			}
			if n++; n == enough {
				k.mood.Store([]int32{wild, wild, absent}[rnd.IntN(3)])
				time.AfterFunc(time.Duration(rnd.IntN(20_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		last[collected] = true
	}
	// What is left in the files comes with a relay that collects nothing itself.
	k.mood.Store(calm)
	r := start(t, relay.Options{Address: s.addr, Spool: &relay.SpoolOptions{Dir: dir}})
	eventually(t, "nothing waits", func() bool { st := r.State(); return st.Connected && st.Spool.Waiting == 0 })
	r.Close()
	eventually(t, "the last connection has ended", func() bool { return k.visits.Load() == 0 && len(s.peers) == 0 })
	stop()
	<-served
	lost, twice := 0, 0
	for n := 1; n <= collected; n++ {
		switch there := k.journal[fmt.Sprintf("cpu:%d", n)]; {
		case there == 0 && !last[n]:
			lost++
		case there > 1:
			twice++
		}
	}
	t.Logf("%d collected, at the end %+v", collected, r.State().Spool)
	if lost+twice > 0 {
		t.Errorf("of %d readings %d are lost and %d are there more than once", collected, lost, twice)
	}
}
