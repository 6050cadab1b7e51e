package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/nanopack/pulse/migrations"
)

// An archive is a backup: the files of a data dir in a tar that is compressed with zstd. The last
// file is a manifest of all others. An archive without a manifest is not whole; with it, every byte
// can be checked.
const (
	archiveFormat    = 1
	manifestName     = "pulse-backup.json"
	maxManifest      = 64 << 20
	maxArchivedFiles = 1 << 20
)

// manifest is the last file of an archive.
type manifest struct {
	Format  int       `json:"format"`
	Pulse   string    `json:"pulse"` // the version that made it
	Created time.Time `json:"created"`
	// FirstSequence to LastSequence are the events that are certainly in the archive. LastSequence
	// is below FirstSequence if there are none.
	FirstSequence uint64 `json:"first_sequence"`
	LastSequence  uint64 `json:"last_sequence"`
	// Influx reports whether the archive has the embedded InfluxDB.
	Influx bool           `json:"influx"`
	Files  []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// bytes returns the size of all files together.
func (m *manifest) bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// archiveWriter writes an archive.
type archiveWriter struct {
	zip      *zstd.Encoder
	tar      *tar.Writer
	manifest manifest
}

func newArchiveWriter(w io.Writer, now time.Time) (*archiveWriter, error) {
	zip, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &archiveWriter{zip: zip, tar: tar.NewWriter(zip),
		manifest: manifest{Format: archiveFormat, Pulse: version(), Created: now.UTC()}}, nil
}

// add adds a file of exactly size bytes.
func (a *archiveWriter) add(name string, size int64, content io.Reader) error {
	sum := sha256.New()
	if err := a.write(name, size, io.TeeReader(content, sum)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.manifest.Files = append(a.manifest.Files, manifestFile{name, size, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func (a *archiveWriter) write(name string, size int64, content io.Reader) error {
	header := &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: a.manifest.Created, Format: tar.FormatPAX}
	if err := a.tar.WriteHeader(header); err != nil {
		return err
	}
	if n, err := io.Copy(a.tar, content); err != nil || n != size {
		return errors.Join(err, fmt.Errorf("%d bytes of %d", n, size))
	}
	return nil
}

// below returns a function that adds files of a directory of the data dir.
func (a *archiveWriter) below(dir string) func(name string, size int64, content io.Reader) error {
	return func(name string, size int64, content io.Reader) error {
		return a.add(path.Join(dir, name), size, content)
	}
}

// finish writes the manifest and ends the archive.
func (a *archiveWriter) finish() error {
	text, err := json.MarshalIndent(a.manifest, "", " ")
	if err != nil {
		return err
	}
	if err := a.write(manifestName, int64(len(text)), strings.NewReader(string(text))); err != nil {
		return err
	}
	return errors.Join(a.tar.Close(), a.zip.Close())
}

var errNotWhole = errors.New("it is cut off or damaged: make another")

// readArchive reads an archive to its end, passes each file to add, and returns the manifest if the
// archive is whole. Only then may the files be used.
func readArchive(r io.Reader, add func(name string, size int64, content io.Reader) error) (*manifest, error) {
	zip, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	files := tar.NewReader(zip)
	var seen []manifestFile
	for {
		header, err := files.Next()
		switch {
		case err != nil && len(seen) == 0:
			return nil, fmt.Errorf("it is no backup of pulse: %w", err)
		case err != nil:
			return nil, fmt.Errorf("%w (%w)", errNotWhole, err)
		case header.Name == manifestName:
			m, err := readManifest(files, header.Size, seen)
			if err != nil {
				return nil, err
			}
			// Read to the end, so that the bytes after the tar are checked too.
			if _, err := files.Next(); err != io.EOF {
				return nil, errNotWhole
			}
			if _, err := io.Copy(io.Discard, zip); err != nil {
				return nil, fmt.Errorf("%w (%w)", errNotWhole, err)
			}
			return m, nil
		case !isDataFile(header):
			return nil, fmt.Errorf("it is no backup of pulse: it holds %q", header.Name)
		case len(seen) == maxArchivedFiles:
			return nil, fmt.Errorf("it is no backup of pulse: it holds more than %d files", maxArchivedFiles)
		}
		sum := sha256.New()
		if err := add(header.Name, header.Size, io.TeeReader(files, sum)); err != nil {
			return nil, err
		}
		seen = append(seen, manifestFile{header.Name, header.Size, hex.EncodeToString(sum.Sum(nil))})
	}
}

// readManifest reads the manifest and compares it with the files that came before it.
func readManifest(r io.Reader, size int64, seen []manifestFile) (*manifest, error) {
	if size > maxManifest {
		return nil, errNotWhole
	}
	var m manifest
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return nil, fmt.Errorf("%w (%w)", errNotWhole, err)
	}
	if m.Format != archiveFormat {
		return nil, fmt.Errorf("it is of format %d, and this pulse (%s) knows format %d: use pulse %s", m.Format, version(), archiveFormat, m.Pulse)
	}
	if len(m.Files) != len(seen) {
		return nil, errNotWhole
	}
	state := false
	for i := range seen {
		if m.Files[i] != seen[i] {
			return nil, fmt.Errorf("%w (%s is not what was saved)", errNotWhole, m.Files[i].Name)
		}
		state = state || seen[i].Name == migrations.FileName
	}
	if !state {
		return nil, fmt.Errorf("it is no backup of pulse: it holds no %s", migrations.FileName)
	}
	return &m, nil
}

// isDataFile reports whether h is a plain file that a backup may hold under that name.
func isDataFile(h *tar.Header) bool {
	if h.Typeflag != tar.TypeReg || h.Size < 0 || path.Clean(h.Name) != h.Name || strings.ContainsAny(h.Name, "\\\x00") {
		return false
	}
	for _, f := range dataFiles {
		if f.names.MatchString(h.Name) {
			return h.Size <= f.bytes
		}
	}
	return false
}

// dataFiles are the files that a backup may hold, with the largest size that each may have.
var dataFiles = []struct {
	names *regexp.Regexp
	bytes int64
}{
	{regexp.MustCompile(`^pulse\.db$`), 64 << 30},
	{regexp.MustCompile(`^journal/jetstream/PULSE/streams/PULSE/meta\.(inf|sum)$`), 1 << 20},
	{regexp.MustCompile(`^journal/jetstream/PULSE/streams/PULSE/msgs/[0-9]+\.blk$`), 1 << 30},
	{regexp.MustCompile(`^influx/manifest$`), 4 << 30}, // it holds a copy of meta.db
	{regexp.MustCompile(`^influx/meta/meta\.db$`), 1 << 30},
	{regexp.MustCompile(`^influx/data/[^/]+/[^/]+/[0-9]+/[^/]+$`), 4 << 30},
}
