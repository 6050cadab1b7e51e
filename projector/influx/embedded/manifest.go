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

// manifestName is the file in the store's directory that lists what should be in the other files.
const manifestName = "manifest"

// maxDamages is how many damages the manifest remembers.
const maxDamages = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifest lists what the directory held when the manifest was last written: which files, and what
// is in them. The engine has no such list: it does not notice a missing file, and it takes the
// content of a damaged file for true.
type manifest struct {
	// Schema is the content of meta.db.
	Schema []byte `json:"schema"`
	// Files are the data files, by their names below data/, with slashes.
	Files map[string]dataFile `json:"files"`
	// Damages are the damages that were found, the newest last.
	Damages []influx.Damage `json:"damages,omitempty"`
}

// dataFile describes a file of points. The engine never changes such a file.
type dataFile struct {
	Size     int64  `json:"size"`
	Checksum uint32 `json:"crc32c"`
	// Index is the checksum of the index at the end of the file, 0 if an earlier release wrote the
	// manifest: see salvage.go.
	Index uint32 `json:"index_crc32c,omitempty"`
	// Min and Max are the times of the oldest and the newest point, in ns.
	Min int64 `json:"min"`
	Max int64 `json:"max"`
	// Pending says that the file did not have its final name yet. Nobody was promised the points in
	// it.
	Pending bool `json:"pending,omitempty"`
}

// errManifest means that the manifest exists but its content is not what was written.
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

// encode returns the content of the manifest file: a line with the checksum of the rest, then the
// rest.
func (m *manifest) encode() ([]byte, error) {
	content, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append([]byte(checksumLine(content)+"\n"), content...), nil
}

// writeFile replaces a file with a new one, durably.
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
