package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
)

// mendLogs cuts what a crash or a full disk left of an entry at the end of each
// shard's newest log segment. The engine does that too, but only after it has
// opened the segment for writing at its old end: what is acknowledged after that
// lies behind a hole, and the next start throws it away.
func mendLogs(dir string, log *slog.Logger) error {
	segments, err := filepath.Glob(filepath.Join(dir, "*", "*", "*", tsm1.WALFilePrefix+"*."+tsm1.WALFileExtension))
	if err != nil {
		return err
	}
	slices.Sort(segments)
	for i, path := range segments {
		if i+1 < len(segments) && filepath.Dir(segments[i+1]) == filepath.Dir(path) {
			continue // only the newest is written to
		}
		if err := mendLog(path, log); err != nil {
			return err
		}
	}
	return nil
}

func mendLog(path string, log *slog.Logger) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	good, err := wholeEntries(f, info.Size())
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if good == info.Size() {
		return nil
	}
	log.Warn("the end of InfluxDB's log was written in part; it was cut, nothing acknowledged was in it",
		"path", path, "bytes", info.Size()-good)
	if err := f.Truncate(good); err != nil {
		return err
	}
	return f.Sync()
}

// wholeEntries is up to where a segment of size bytes can be read. An entry is
// its type (a byte), its length (four, big-endian) and so many bytes.
func wholeEntries(f io.ReaderAt, size int64) (int64, error) {
	const header = 5
	var end int64
	for end+header <= size {
		var h [header]byte
		if _, err := f.ReadAt(h[:], end); err != nil {
			return 0, err
		}
		next := end + header + int64(binary.BigEndian.Uint32(h[1:]))
		if h[0] < byte(tsm1.WriteWALEntryType) || h[0] > byte(tsm1.DeleteRangeWALEntryType) || next > size {
			break
		}
		end = next
	}
	// The lengths are sound; now what the engine makes of the entries.
	r := tsm1.NewWALSegmentReader(io.NopCloser(io.NewSectionReader(f, 0, end)))
	for r.Next() {
		if _, err := r.Read(); err != nil {
			break
		}
	}
	return r.Count(), nil
}
