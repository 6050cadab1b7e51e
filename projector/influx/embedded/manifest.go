package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nanopack/pulse/projector/influx"

	"github.com/nanopack/pulse/internal/plainfile"
)

// manifestName is the file in the store's directory that says what ought to be in the others.
const manifestName = "manifest"

// maxDamages is how many damages the manifest remembers.
const maxDamages = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifest says what the directory held when it was last written: which files, and what is in them.
// The engine has no such list: a file that is gone is not missed, and what it reads from a damaged
// one it takes for true.
type manifest struct {
	// Schema is meta.db.
	Schema []byte `json:"schema"`
	// Files are the data files, by their names below data/, with slashes.
	Files map[string]dataFile `json:"files"`
	// Damages are what was found, the newest last.
	Damages []influx.Damage `json:"damages,omitempty"`
}

// dataFile is a file of points. The engine never changes one.
type dataFile struct {
	Size     int64  `json:"size"`
	Checksum uint32 `json:"crc32c"`
	// Index is the checksum of the index at its end, 0 if an earlier release wrote the manifest:
	// see salvage.go.
	Index uint32 `json:"index_crc32c,omitempty"`
	// Min and Max are the times of the oldest and the newest point, in ns.
	Min int64 `json:"min"`
	Max int64 `json:"max"`
	// Pending: it had not got its name yet. What it holds was promised to nobody.
	Pending bool `json:"pending,omitempty"`
}

// errManifest says that a manifest is there and is not as it was written.
var errManifest = errors.New("its checksum does not fit its content")

// readManifest reads the manifest of a directory, and returns nil if there is none.
func readManifest(dir string) (*manifest, error) {
	file, err := plainfile.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, plainfile.ErrNotPlain) {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	if err != nil {
		return nil, err
	}
	sum, content, ok := bytes.Cut(file, []byte("\n"))
	if !ok || string(sum) != checksumLine(content) {
		return nil, errManifest
	}
	m := new(manifest)
	if err := json.Unmarshal(content, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	return m, nil
}

func checksumLine(content []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(content, castagnoli))
}

// encode is the manifest as it is in its file: a line with the checksum of what follows.
func (m *manifest) encode() ([]byte, error) {
	content, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append([]byte(checksumLine(content)+"\n"), content...), nil
}

// writeFile puts a file in the place of another, durably.
func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
