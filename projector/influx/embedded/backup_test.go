package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx/embedded"
)

// intoDir returns an AddFile that writes the files of a backup into dir.
func intoDir(dir string) embedded.AddFile {
	return func(name string, size int64, content io.Reader) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		n, err := io.Copy(f, content)
		if n != size {
			err = errors.Join(err, fmt.Errorf("%s: %d bytes of %d", name, n, size))
		}
		return errors.Join(err, f.Close())
	}
}

// A backup made during writes holds everything that was acknowledged before the backup began, in
// every shard, and opens as a store.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := open(t, embedded.Options{Dir: dir})
	exec(t, s, createRaw, createAggregates)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	load.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			write(t, s, points("during", time.Now().Add(-time.Minute), 100))
		}
	})
	for round := range 3 {
		want := 0
		for hour := range 4 { // one shard each
			host := fmt.Sprintf("%d-%d", round, hour)
			write(t, s, points(host, time.Now().Add(-time.Duration(hour)*time.Hour-time.Minute), 500))
			want += 500
		}
		to := t.TempDir()
		if err := s.Backup(t.Context(), intoDir(to)); err != nil {
			t.Fatal(err)
		}
		restored := open(t, embedded.Options{Dir: to})
		rows, err := restored.Query(t.Context(), `SELECT count("cpu") FROM "statistics"."one_day"."cpu" WHERE "host" =~ /^`+fmt.Sprint(round)+`-/`, nil)
		if err != nil || len(rows) != 1 || rows[0].Values[0][1] != float64(want) {
			t.Errorf("round %d: %v, %v; %d points were written before", round, rows, err, want)
		}
		if rows, err := restored.Query(t.Context(), `SHOW RETENTION POLICIES ON "statistics"`, nil); err != nil || !strings.Contains(fmt.Sprint(rows), "one_week") {
			t.Errorf("the schema: %v, %v", rows, err)
		}
		write(t, restored, points("after", time.Now().Add(-time.Minute), 10))
		if err := restored.Close(); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "data", "*", "*", "*", "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBackupFails(t *testing.T) {
	s := open(t, embedded.Options{Dir: t.TempDir()})
	exec(t, s, createRaw)
	write(t, s, points("a", time.Now().Add(-time.Minute), 10))
	full := errors.New("no space")
	if err := s.Backup(t.Context(), func(name string, _ int64, _ io.Reader) error {
		if strings.HasPrefix(name, "data/") {
			return full
		}
		return nil
	}); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, intoDir(t.TempDir())); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), intoDir(t.TempDir())); err == nil {
		t.Error("a closed store was backed up")
	}
}
