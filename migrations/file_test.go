package migrations

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// wholeFile returns an undamaged state file that is large enough for damage to hit meta pages,
// branches, leaves, overflow pages and the freelist.
func wholeFile(tb testing.TB) []byte {
	tb.Helper()
	dir := tb.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	for round := range 3 {
		if err := s.DB.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("relays"))
			for i := range 200 {
				if err := b.Put(fmt.Appendf(nil, "relay %d", i), bytes.Repeat([]byte{byte(round)}, 1000)); err != nil {
					return err
				}
			}
			return b.Put([]byte("large"), bytes.Repeat([]byte{7}, 20_000))
		}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// written is how many bytes of the file are in use: bbolt makes the file longer in advance.
func written(data []byte) int {
	size := 0
	for page := range 2 {
		meta := data[page*os.Getpagesize()+16:]
		pages := int(meta[40]) | int(meta[41])<<8 | int(meta[42])<<16
		size = max(size, pages*os.Getpagesize())
	}
	return size
}

// Every kind of damage is refused with an error that says what to do, and the file is left
// unchanged, with and without a journal beside it.
func TestDamaged(t *testing.T) {
	whole := wholeFile(t)
	page := os.Getpagesize()
	rng := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, len(whole))
	_, _ = rng.Read(noise)
	damages := map[string][]byte{
		"empty":           {},
		"zeros":           make([]byte, len(whole)),
		"noise":           noise,
		"text":            []byte("{\"poll-interval\": 60}\n"),
		"garbled pages":   append(bytes.Clone(whole[:2*page]), noise[2*page:]...),
		"zeroed pages":    append(bytes.Clone(whole[:2*page]), make([]byte, len(whole)-2*page)...),
		"no meta pages":   append(bytes.Clone(noise[:2*page]), whole[2*page:]...),
		"another version": bytes.ReplaceAll(whole, []byte{0xED, 0xDA, 0x0C, 0xED, 2}, []byte{0xED, 0xDA, 0x0C, 0xED, 9}),
		"one page less":   whole[:written(whole)-page],
		"one byte less":   whole[:written(whole)-1],
	}
	for n := 1; n < written(whole); n = n*3/2 + 1 {
		damages[fmt.Sprintf("cut to %d", n)] = whole[:n]
	}
	for name, data := range damages {
		for _, journal := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/journal=%v", name, journal), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, FileName)
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				if journal {
					if err := os.MkdirAll(filepath.Join(dir, "journal", "jetstream"), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				s, err := Open(dir, Options{})
				if err == nil {
					s.Close()
					t.Fatal("it was opened")
				}
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore it") {
					t.Errorf("refused with %v, want ErrDamaged, the path and what to do", err)
				}
				if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
					t.Errorf("the damaged file was changed (%v)", err)
				}
				// The lock is free: the file can be replaced and pulse can be started.
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				s, err = Open(dir, Options{})
				if err != nil {
					t.Fatalf("the restored file: %v", err)
				}
				s.Close()
			})
		}
	}
}

// Any single garbled page is refused or harmless. Open never panics, and a file that was opened can
// be written to.
func TestGarbledPages(t *testing.T) {
	whole := wholeFile(t)
	page := os.Getpagesize()
	rng := rand.New(rand.NewPCG(1, 2))
	refused, tried := 0, 0
	pages := written(whole) / page
	for p := range pages {
		if p >= 12 && p%11 != 0 {
			continue // leaves like their neighbours
		}
		tried++
		for round := range 3 {
			data := bytes.Clone(whole)
			at := data[p*page : (p+1)*page]
			switch round {
			case 0: // all of it
				for i := range at {
					at[i] = byte(rng.Uint32())
				}
			case 1: // its header with counts and lengths
				for i := range at[:64] {
					at[i] = byte(rng.Uint32())
				}
			case 2: // a copy of another page
				other := rng.IntN(pages)
				copy(at, whole[other*page:(other+1)*page])
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir, Options{})
			if err != nil {
				refused++
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
					t.Errorf("page %d, kind %d: refused with %v", p, round, err)
				}
				continue
			}
			if err := s.DB.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("x"), []byte("y")) }); err != nil {
				t.Errorf("page %d, kind %d: %v", p, round, err)
			}
			s.Close()
		}
	}
	if refused < tried {
		t.Errorf("only %d of %d garbled files were refused", refused, 3*tried)
	}
}

// The path may hold something other than a regular file, or a file that cannot be read.
func TestNoFile(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a directory":       {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"a link to nowhere": {func(path string) error { return os.Symlink(path+".gone", path) }, "link to nowhere"},
		"a link in circles": {func(path string) error { return os.Symlink(path, path) }, "too many levels"},
		"a device":          {func(path string) error { return os.Symlink("/dev/zero", path) }, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("refused with %v, want %q and the path", err, c.want)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a data dir: %v", err)
	}
	if _, err := Open(filepath.Join(file, "below"), Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a data dir below a file: %v", err)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.DB.Update(func(tx *bbolt.Tx) error {
		for i := range 10_000 {
			if err := tx.Bucket([]byte("relays")).Put(fmt.Appendf(nil, "relay %d", i), make([]byte, 1000)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	s.Close()
	for b.Loop() {
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
