package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// victimDir is the environment variable that makes the test binary the process that is killed.
const victimDir = "PULSE_TEST_VICTIM_DIR"

// victimBatch is how many points are in one acknowledged write of the victim.
const victimBatch = 50

// victim writes and flushes for ever, and prints a line after each flush.
func victim(dir string) {
	s, err := embedded.Open(embedded.Options{Dir: dir})
	if err == nil {
		_, err = s.Query(context.Background(), createRaw, nil)
	}
	for round := time.Now().UnixNano(); err == nil; round++ {
		_, err = s.Write(context.Background(), influx.PolicyRaw, points(fmt.Sprint(round), time.Now().Add(-time.Hour), victimBatch))
		if err == nil {
			err = s.Flush(context.Background(), influx.PolicyRaw)
		}
		if err == nil {
			fmt.Println("acknowledged")
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// Points that were flushed before kill -9 are there after each restart, and nothing is taken for
// damaged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := 0
	for round := range 4 {
		cmd := osexec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killed := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() != "acknowledged" {
				t.Errorf("round %d: %s", round, lines.Text())
				break
			}
			if acked++; acked%(40*(round+1)) == 0 && !killed {
				killed = true
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // always an error, because the process was killed
		s, err := embedded.Open(embedded.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if d := s.Damages(); len(d) > 0 {
			t.Errorf("round %d: taken for damaged: %+v", round, d)
		}
		// In each round the write under way may have been stored as well.
		if n := count(t, s); n < acked*victimBatch || n > (acked+round+1)*victimBatch {
			t.Errorf("round %d: %d points are there, %d were acknowledged", round, n, acked*victimBatch)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
