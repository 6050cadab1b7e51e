package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// written returns the bytes of a database with branches, leaves, further pages and nested buckets.
func written(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := Open(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("bucket"))
		if err != nil {
			return err
		}
		for i := range 500 {
			if err := b.Put(fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{7}, 50)); err != nil {
				return err
			}
		}
		inner, err := b.CreateBucket([]byte("small"))
		if err != nil {
			return err
		}
		return errors.Join(inner.Put([]byte("a"), []byte("b")), b.Put([]byte("large"), make([]byte, 20_000)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// open opens a file with these bytes and counts its values.
func open(t *testing.T, file []byte) (values int, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckMeta(bytes.NewReader(file), int64(len(file))); err != nil {
		return 0, &DamagedError{err}
	}
	db, err := Open(path, time.Second)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return values, Guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("bucket")).ForEach(func(_, _ []byte) error { values++; return nil })
		})
	})
}

func TestOpenWholeFile(t *testing.T) {
	if n, err := open(t, written(t)); n != 502 || err != nil {
		t.Fatalf("%d values, %v", n, err)
	}
}

// TestOpenDamagedFile checks that a file with one changed byte opens or is refused as damaged,
// whichever byte it is. Opening never panics and never loops for ever.
func TestOpenDamagedFile(t *testing.T) {
	file := written(t)
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 150 {
		changed := bytes.Clone(file)
		page := rng.IntN(len(file)/4096) * 4096
		changed[page+rng.IntN(64)] ^= byte(1 + rng.IntN(255)) // the header and elements
		_, err := open(t, changed)
		if damaged := new(DamagedError); err != nil && !errors.As(err, &damaged) {
			t.Errorf("a byte of page %d: %v", page/4096, err)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 25 {
		t.Errorf("%d of 150 were refused", refused)
	}
	for _, size := range []int{0, 10, 4096, len(file) / 2} {
		if _, err := open(t, file[:size]); err == nil {
			t.Errorf("a file of %d bytes opens", size)
		}
	}
}

func TestOpenLockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := Open(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := Open(path, 10*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
}
