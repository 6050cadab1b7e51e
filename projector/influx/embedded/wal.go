package embedded

import (
	"encoding/binary"
	"io"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
)

// wholeEntries returns up to which byte a segment of size bytes can be read. An entry is its type
// (1 byte), the length of its data (4 bytes, big-endian) and the data.
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
	// The lengths are sound. Now check that the engine can read the entries.
	r := tsm1.NewWALSegmentReader(io.NopCloser(io.NewSectionReader(f, 0, end)))
	for r.Next() {
		if _, err := r.Read(); err != nil {
			break
		}
	}
	return r.Count(), nil
}
