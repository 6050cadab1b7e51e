package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func init() { children["append"] = appendChild }

// appendChild appends from many goroutines until it is killed. It prints each acknowledged event as
// "relay event number". It prints a line in one piece, after Append has returned.
func appendChild() {
	dir := os.Getenv("PULSE_JOURNAL_DIR")
	db, err := bbolt.Open(filepath.Join(dir, "pulse.db"), 0o600, nil)
	if err != nil {
		panic(err)
	}
	o := Options{Dir: filepath.Join(dir, "journal"), Marker: BoltMarker(db)}
	if os.Getenv("PULSE_JOURNAL_SYNC") != "" {
		o.Sync = SyncEvery(time.Second)
	}
	j, err := Open(context.Background(), o)
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	for g := range 32 {
		go func() {
			// The round, which the parent gives, makes the relay's name new, so that counting
			// starts at 0.
			for i := 0; ; i++ {
				e := sample(os.Getenv("PULSE_JOURNAL_ROUND")+"-"+fmt.Sprint(g), i)
				seq, err := j.Append(context.Background(), e)
				if err != nil {
					panic(err)
				}
				mu.Lock()
				fmt.Printf("%s %d %d\n", e.Relay, i, seq)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// After each kill -9 in the middle of appending, no acknowledged event is lost and no event is
// stored twice.
func TestKill(t *testing.T) {
	type key struct {
		relay string
		i     int
	}
	for _, policy := range []string{"", "interval"} {
		dir := t.TempDir()
		acked := make(map[key]uint64)
		for round := range 4 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "PULSE_JOURNAL_CHILD=append", "PULSE_JOURNAL_DIR="+dir,
				"PULSE_JOURNAL_SYNC="+policy, fmt.Sprintf("PULSE_JOURNAL_ROUND=%d", round))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(out)
			for n := 0; ; n++ {
				line, err := in.ReadString('\n')
				if err == io.EOF || strings.HasSuffix(line, "\n") == false {
					break // the event of an unfinished line may be acknowledged or not
				}
				var k key
				var seq uint64
				if _, err := fmt.Sscanf(line, "%s %d %d", &k.relay, &k.i, &seq); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				acked[k] = seq
				if n == 1500+round*777 {
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
				t.Fatalf("the child ended by itself: %v %s", err, stderr.String())
			}
		}
		db, err := bbolt.Open(filepath.Join(dir, "pulse.db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		j := open(t, Options{Dir: filepath.Join(dir, "journal"), Marker: BoltMarker(db)})
		if rep := j.Report(); rep != (OpenReport{}) {
			t.Errorf("the report is %+v", rep)
		}
		seen := make(map[key]bool)
		r := from1(t, j, 1)
		next := uint64(1)
		for r.Pending() > 0 {
			recs, err := r.Read(t.Context(), 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range recs {
				k := key{rec.Event.Relay, int(rec.Event.Time - sample("", 0).Time)}
				if rec.Seq != next || seen[k] {
					t.Fatalf("number %d where %d should be, event %v there before: %v", rec.Seq, next, k, seen[k])
				}
				next++
				seen[k] = true
				if seq, ok := acked[k]; ok && seq != rec.Seq {
					t.Errorf("%v was acknowledged as %d and is %d", k, seq, rec.Seq)
				}
				delete(acked, k)
			}
		}
		if len(acked) != 0 || next < 8000 {
			t.Errorf("%d acknowledged events are lost, of %d", len(acked), next-1)
		}
		closeJournal(t, j)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
