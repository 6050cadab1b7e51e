package embedded

import (
	"math"
	"path/filepath"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/projector/influx"

	"github.com/nanopack/pulse/internal/plainfile"
)

// Report is what Check found.
type Report struct {
	Files int   // number of files of points
	Bytes int64 // their total size
	// Logs is how many files the log of an earlier release has; the next Open writes their points
	// to the data files.
	Logs     int
	LogBytes int64
	// Damages are what the next Open would set aside or find missing.
	Damages []influx.Damage
}

// Check compares all files in the directory of a store that is not open with what was written, and
// changes nothing.
func Check(dir string) (Report, error) {
	f, err := examine(dir, math.MaxInt64)
	if err != nil {
		return Report{}, openError(dir, "the directory", err)
	}
	r := Report{Files: f.files, Bytes: f.bytes, Damages: f.damages}
	if !f.log {
		return r, nil
	}
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*", "*", "*", tsm1.WALFilePrefix+"*."+tsm1.WALFileExtension))
	if err != nil {
		return r, err
	}
	for _, path := range segments {
		d, size, err := checkLog(dir, path, shardsByID(f.schema))
		if err != nil {
			return r, err
		}
		r.Logs++
		r.LogBytes += size
		if d != nil {
			r.Damages = append(r.Damages, *d)
		}
	}
	return r, nil
}

// checkLog returns the damage of a log segment, nil if all of the segment can be read, and the size
// of the segment in bytes.
func checkLog(dir, path string, shards map[uint64]shardTime) (_ *influx.Damage, size int64, _ error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	size = info.Size()
	good, err := wholeEntries(f, size)
	if err != nil || good == size {
		return nil, size, err
	}
	d, err := logDamage(dir, path, good, size, shards)
	return d, size, err
}
