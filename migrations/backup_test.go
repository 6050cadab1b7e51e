package migrations

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// A copy is of one moment and opens as a state file, although its receiver is slow and others write
// at the same time.
func TestBackup(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(value string) {
		t.Helper()
		if err := s.DB.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("of the test"))
			if err != nil {
				return err
			}
			return b.Put([]byte("key"), []byte(value))
		}); err != nil {
			t.Fatal(err)
		}
	}
	put("before")
	dir := t.TempDir()
	if err := s.Backup(func(name string, size int64, content io.Reader) error {
		put("after") // if it had to grow the file, it would wait for ever for an open transaction
		b, err := io.ReadAll(content)
		if int64(len(b)) != size {
			t.Errorf("%d bytes of %d", len(b), size)
		}
		return errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}); err != nil {
		t.Fatal(err)
	}
	copied, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if err := copied.DB.View(func(tx *bbolt.Tx) error {
		if got := string(tx.Bucket([]byte("of the test")).Get([]byte("key"))); got != "before" {
			t.Errorf("the copy holds %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if copied.Identity != s.Identity {
		t.Errorf("the copy is %s of %s", copied.Identity, s.Identity)
	}
	full := errors.New("no space")
	if err := s.Backup(func(string, int64, io.Reader) error { return full }); !errors.Is(err, full) {
		t.Errorf("a receiver that fails: %v", err)
	}
}
