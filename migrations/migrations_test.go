package migrations

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenNewAndAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !first.Created || first.Identity == "" {
		t.Errorf("a new state: %+v", first)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, FileName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, mode)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Created || again.Identity != first.Identity {
		t.Errorf("opened again: %+v, first %+v", again, first)
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second instance: %v, want ErrInUse with the directory", err)
	}
}

// Every kind of damage is refused, and the file is left as it was.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Large enough that a cut may fall anywhere: into meta pages, branches, leaves.
	if err := s.DB.Update(func(tx *bbolt.Tx) error {
		for i := range 200 {
			if err := tx.Bucket([]byte("relays")).Put([]byte{byte(i), byte(i >> 8)}, bytes.Repeat([]byte{1}, 1000)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, len(whole))
	_, _ = rand.Read(noise)

	damages := map[string][]byte{
		"empty":          {},
		"zeros":          make([]byte, len(whole)),
		"noise":          noise,
		"text":           []byte("poll-interval: 60\n"),
		"garbled leaves": append(bytes.Clone(whole[:4*os.Getpagesize()]), noise[4*os.Getpagesize():]...),
	}
	for _, n := range []int{1, 100, 4095, 4096, 4200, 8192, len(whole) / 4, len(whole) / 2} {
		damages["cut to "+string(rune('0'+len(damages)))] = whole[:n]
	}
	for name, data := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir, Options{})
			if err == nil {
				s.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("refused with %v, want ErrDamaged and the path", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
				t.Errorf("the damaged file was changed (%v)", err)
			}
		})
	}
}

func TestForeignAndNewer(t *testing.T) {
	for name, test := range map[string]struct {
		fill func(*bbolt.Tx) error
		want error
	}{
		"foreign":                    {func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("influx")); return err }, ErrForeign},
		"foreign with a meta bucket": {func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("meta")); return err }, ErrForeign},
		"newer": {func(tx *bbolt.Tx) error {
			meta, err := tx.CreateBucket([]byte("meta"))
			if err != nil {
				return err
			}
			return meta.Put([]byte(keySchema), []byte("999"))
		}, ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := bbolt.Open(filepath.Join(dir, FileName), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(test.fill), db.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, Options{}); !errors.Is(err, test.want) {
				t.Errorf("refused with %v, want %v", err, test.want)
			}
		})
	}
}

func TestPathIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("refused with %v", err)
	}
}
