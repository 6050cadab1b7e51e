package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/internal/plainfile"
	"github.com/nanopack/pulse/projector/influx"
)

// A block of a data file has a checksum, but does not contain its series and its times. These are
// in the index at the end of the file, and the index has no checksum. The manifest holds a checksum
// of the index, so that the intact blocks of a damaged file can be told from the others.

// salvageSuffix is the suffix of the file with the intact blocks until it replaces the damaged
// file. The engine removes such files after a crash.
const salvageSuffix = "." + tsm1.TmpTSMFileExtension

// indexChecksum returns the checksum of a data file's index and of what follows the index. The last
// 8 bytes of the file say where the index begins.
func indexChecksum(path string, size int64) (uint32, error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	var at [8]byte
	if _, err := f.ReadAt(at[:], size-int64(len(at))); err != nil {
		return 0, err
	}
	begin := binary.BigEndian.Uint64(at[:])
	if begin >= uint64(size) {
		return 0, errChanged
	}
	index := make([]byte, size-int64(begin))
	_, err = f.ReadAt(index, int64(begin))
	return crc32.Checksum(index, castagnoli), err
}

// salvage writes the intact blocks of a damaged file to a new file beside it, enters the new file
// in the manifest, and narrows the damage to the blocks that are not intact. It reports false when
// nothing can be taken from the damaged file. The ledger's mu is held.
func (s *Store) salvage(d *influx.Damage, known dataFile) bool {
	path := s.below(d.What)
	kept, all, lost, err := copyIntact(path, path+salvageSuffix, known)
	var file dataFile
	if err == nil {
		file, err = describe(path + salvageSuffix)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path + salvageSuffix) // the engine removes it as well
		s.o.Logger.Debug("nothing of a damaged file of InfluxDB is kept", "file", path, "why", err)
		return false
	}
	s.ledger.m.Files[strings.TrimPrefix(d.What, "data/")] = file
	d.Why = fmt.Sprintf("%s; %d of its %d blocks are intact and stay", d.Why, kept, all)
	if kept == all {
		d.Policy, d.From, d.To = "", time.Time{}, time.Time{} // no point is damaged
		return true
	}
	d.From, d.To = time.Unix(0, lost.min).UTC(), time.Unix(0, lost.max).UTC()
	return true
}

var errNotIntact = errors.New("its index is not known to be intact")

// blockTimes are the times of the oldest and the newest point in some blocks, in ns.
type blockTimes struct{ min, max int64 }

// copyIntact copies the intact blocks of the file from. It returns how many blocks it kept, how
// many blocks the file has, and the times of the lost blocks.
func copyIntact(from, to string, known dataFile) (kept, all int, lost blockTimes, err error) {
	if known.Index == 0 {
		return 0, 0, lost, errNotIntact
	}
	if sum, err := indexChecksum(from, known.Size); err != nil || sum != known.Index {
		return 0, 0, lost, errors.Join(errNotIntact, err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, 0, lost, err
	}
	w, err := tsm1.NewTSMWriter(f)
	if err != nil {
		return 0, 0, lost, errors.Join(err, f.Close())
	}
	lost = blockTimes{math.MaxInt64, math.MinInt64}
	err = reading(from, func(r *tsm1.TSMReader) error {
		for blocks := r.BlockIterator(); blocks.Next(); {
			key, oldest, newest, _, sum, block, err := blocks.Read()
			if err != nil {
				return err
			}
			all++
			if sum != crc32.ChecksumIEEE(block) {
				lost = blockTimes{min(lost.min, oldest), max(lost.max, newest)}
				continue
			}
			kept++
			if err := w.WriteBlock(key, oldest, newest, block); err != nil {
				return err
			}
		}
		return w.WriteIndex() // fails if no block was intact
	})
	return kept, all, lost, errors.Join(err, w.Close()) // Close syncs the file
}
