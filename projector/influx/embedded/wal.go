package embedded

import (
	"encoding/binary"
	"io"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
)

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
