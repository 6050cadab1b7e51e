package migrations

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/internal/seal"
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

// Of several processes that start together on a new directory, one opens it and the others get
// ErrInUse; there is one identity.
func TestOpenTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var mu sync.Mutex
	identities := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(dir, Options{})
			if err != nil {
				if !errors.Is(err, ErrInUse) {
					t.Errorf("refused with %v", err)
				}
				return
			}
			mu.Lock()
			identities[s.Identity] = true
			mu.Unlock()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(identities) != 1 || identities[""] {
		t.Errorf("identities %v, expected one", identities)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != FileName {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// The error of a directory in use comes after about lockTimeout: between half of it and ten times
// as long.
func TestLockIsNotWaitedForLong(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	start := time.Now()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	if took := time.Since(start); took < lockTimeout/2 || took > 10*lockTimeout {
		t.Errorf("refused after %v", took)
	}
}

func TestNewStateBesideAJournalIsWarnedOf(t *testing.T) {
	for _, journal := range []bool{false, true} {
		dir := t.TempDir()
		if journal {
			if err := os.MkdirAll(filepath.Join(dir, "journal", "jetstream"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		s, err := Open(dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := strings.Contains(log.String(), "level=WARN"); got != journal {
			t.Errorf("journal %v: log %q", journal, &log)
		}
	}
}

// Every bucket that the other packages use exists, and keeps its content at the next start.
func TestBuckets(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"meta", "relays", "overrides", "positions", "alerts", "rejects", "windows"} {
			if err := s.DB.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(name))
				if round == 1 && string(seal.Open(b.Get([]byte("kept")))) != name {
					t.Errorf("%s: lost what was in it", name)
				}
				return b.Put([]byte("kept"), seal.Seal([]byte("kept"), []byte(name)))
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A step that fails leaves no trace, and runs again the next time.
func TestFailedStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	db, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	broken := errors.New("broken")
	failing := []step{{"buckets", bolt0001Buckets}, {"second", func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket([]byte("half")); err != nil {
			return err
		}
		return broken
	}}}
	if err := runSteps(db, failing, nil); !errors.Is(err, broken) || !strings.Contains(err.Error(), "step 2 (second)") {
		t.Errorf("error %v", err)
	}
	if n, err := schema(db, 2); n != 1 || err != nil {
		t.Errorf("schema %d, %v, expected the first step only", n, err)
	}
	failing[1].run = func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("half")); return err }
	if err := runSteps(db, failing, nil); err != nil {
		t.Errorf("again: %v", err)
	}
	if n, err := schema(db, 2); n != 2 || err != nil {
		t.Errorf("schema %d, %v, expected both steps", n, err)
	}
}
