package plainfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file, pipe, link := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), unix.Mkfifo(pipe, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{file: nil, link: nil, pipe: ErrNotPlain, dir: ErrNotPlain, filepath.Join(dir, "none"): fs.ErrNotExist} {
		data, err := ReadFile(path)
		if !errors.Is(err, want) || err == nil && string(data) != "x" {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
}
