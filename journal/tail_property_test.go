package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// A follower reads a journal and keeps what it read, as a projection does.
type follower struct {
	*Reader
	events map[uint64]string // as they are stored
	next   uint64
}

// step reads once. It reports false if nothing came.
func (f *follower) step(t *testing.T, most int) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	records, err := f.Read(ctx, most)
	if gap, ok := errors.AsType[*GapError](err); ok {
		if gap.Reason == GapRewound {
			for seq := gap.From; seq <= gap.To; seq++ {
				delete(f.events, seq)
			}
			f.next = gap.From
			return true
		}
		t.Errorf("the gap %v where %d should come", gap, f.next)
		return false
	}
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return false
	}
	for _, rec := range records {
		if rec.Seq != f.next || rec.Err != nil || rec.Event == nil {
			t.Errorf("record %d where %d should come, %v", rec.Seq, f.next, rec.Err)
			return false
		}
		data, err := codec.EncodeEvent(nil, rec.Event)
		if err != nil {
			t.Error(err)
		}
		f.events[rec.Seq] = string(data)
		f.next++
	}
	return true
}

// Readers with the tail and without get the same events and the same gaps, and what the journal
// holds in the end, whatever happens: appends of several relays at once, readers that lag, write
// errors, and a disk that loses the last events.
func TestTailEqualsServer(t *testing.T) {
	for round := range 4 {
		seed := uint64(time.Now().UnixNano()) + uint64(round)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { tailEqualsServer(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func tailEqualsServer(t *testing.T, random *rand.Rand) {
	var disk badDisk
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, fsync: disk.fsync, retryMin: time.Millisecond})
	j.durable.tail.maxEvents = 1 + random.IntN(100)
	var followers []*follower
	for i := range 6 {
		f := &follower{Reader: from1(t, j, 1), events: make(map[uint64]string), next: 1}
		f.apart = i%2 == 1
		followers = append(followers, f)
	}
	appended := 0
	for range 60 {
		switch n := random.IntN(20); {
		case n < 9:
			var wg sync.WaitGroup
			for g := range 1 + random.IntN(4) {
				from, count := appended, random.IntN(20)
				appended += count
				wg.Go(func() { appendN(t, j, fmt.Sprint("web", g), from, count) })
			}
			wg.Wait()
		case n < 18:
			// Two readers, one of each kind, go on in the same way.
			pair := random.IntN(len(followers)/2) * 2
			for range 1 + random.IntN(5) {
				most := 1 + random.IntN(40)
				for _, f := range followers[pair : pair+2] {
					if last, _, _ := j.durable.get(); f.next != last+1 {
						f.step(t, most)
					}
				}
			}
		default:
			breakServer(t, j, &disk, func() {
				if n == 19 {
					loseEnd(t, dir, random)
				}
			})
		}
	}
	appendN(t, j, "end", appended, 1)
	whole := &follower{Reader: from1(t, j, 1), events: make(map[uint64]string), next: 1}
	whole.apart = true
	last, _, _ := j.durable.get()
	for whole.next <= last && whole.step(t, 100) {
	}
	for i, f := range followers {
		for f.step(t, 100) { // until nothing comes: a gap may come after the last number
		}
		if f.next != last+1 || len(f.events) != len(whole.events) {
			t.Errorf("reader %d has %d events of %d and waits for %d after %d", i, len(f.events), len(whole.events), f.next, last)
		}
		for seq, want := range whole.events {
			if f.events[seq] != want {
				t.Errorf("reader %d has as number %d\n%s and not\n%s", i, seq, f.events[seq], want)
			}
		}
	}
}

// loseEnd removes up to 30 of the last events from the disk of a stopped server.
func loseEnd(t *testing.T, dir string, random *rand.Rand) {
	msgs := filepath.Join(streamDir(dir), "msgs")
	blocks, err := listBlocks(msgs)
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	data, err := os.ReadFile(blockPath(msgs, blocks[0]))
	if err != nil {
		t.Fatal(err)
	}
	events := bytes.Count(data, []byte(`{"v":1`))
	if events < 2 {
		return
	}
	cutAfter(t, blockPath(msgs, blocks[0]), uint64(max(1, events-1-random.IntN(30))))
	if err := os.Remove(filepath.Join(msgs, indexFile)); err != nil {
		t.Fatal(err)
	}
}
