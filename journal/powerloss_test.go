package journal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// cut records what a disk holds after a power loss: of each block the part that was last synced.
type cut struct {
	mu    sync.Mutex
	sizes map[string]int64
}

func (c *cut) fsync(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !fi.IsDir() {
		c.sizes[f.Name()] = fi.Size()
	}
	return nil
}

// Acknowledged events survive a power loss, because they are in the part of the files that was
// synced before the acknowledgement.
func TestPowerLoss(t *testing.T) {
	c := &cut{sizes: make(map[string]int64)}
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, fsync: c.fsync})
	var acked atomic.Uint64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	padding := strings.Repeat("x", 20<<10)
	for g := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e := sample(fmt.Sprintf("relay%d", g), i)
				e.Collectors[0].Name = padding // so that blocks fill quickly
				seq, err := j.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				for old := acked.Load(); seq > old && !acked.CompareAndSwap(old, seq); old = acked.Load() {
				}
			}
		}()
	}
	msgs := j.runs.current().msgs
	eventually(t, "three blocks", func() bool { list, err := listBlocks(msgs); return err == nil && len(list) >= 3 })
	// The power fails now. The copy must hold every event that was acknowledged before. Of each
	// block it gets the part that was synced at some later moment.
	want := acked.Load()
	c.mu.Lock()
	lost := t.TempDir()
	sizes := make(map[string]int64)
	for name, size := range c.sizes {
		sizes[name] = size
	}
	c.mu.Unlock()
	copyJournal(t, dir, lost, sizes)
	close(stop)
	wg.Wait()
	if want < 500 {
		t.Fatalf("only %d events", want)
	}
	p := open(t, Options{Dir: lost})
	st, err := p.State(t.Context())
	if err != nil || st.LastSeq < want {
		t.Fatalf("%d were acknowledged, the journal has %d, %v", want, st.LastSeq, err)
	}
	seqs, _ := readN(t, from1(t, p, 1), int(st.LastSeq))
	if seqs[len(seqs)-1] != st.LastSeq {
		t.Errorf("the last is %d", seqs[len(seqs)-1])
	}
}

// copyJournal copies the files of a journal without the index, and of each block only as much as
// sizes says.
func copyJournal(t *testing.T, from, to string, sizes map[string]int64) {
	t.Helper()
	src, dst := streamDir(from), streamDir(to)
	if err := os.MkdirAll(dst+"/msgs", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meta.inf", "meta.sum"} {
		data, err := os.ReadFile(src + "/" + name)
		if err == nil {
			err = os.WriteFile(dst+"/"+name, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := listBlocks(src + "/msgs")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		size, ok := sizes[blockPath(src+"/msgs", n)]
		if !ok {
			continue // its name was not on the disk yet
		}
		in, err := os.Open(blockPath(src+"/msgs", n))
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(blockPath(dst+"/msgs", n))
		if err == nil {
			_, err = io.CopyN(out, in, size)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
