package embedded

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/projector/influx"

	"github.com/nanopack/pulse/internal/plainfile"
)

const (
	dataSuffix = "." + tsm1.TSMFileExtension
	// verifyAtOnce is how many bytes of files are read before the engine is opened: a fraction of a
	// second's work. If there are more bytes, all files are read while the engine runs.
	verifyAtOnce = 128 << 20
	// verifyPiece and verifyPause limit how fast files are read while the engine runs: a pause
	// after each piece makes some 100 MB a second at most.
	verifyPiece = 1 << 20
	verifyPause = 10 * time.Millisecond
)

var errChanged = errors.New("its content is not what was written")

// merged reports whether a file was made of other files. The end of its name counts the merges.
func merged(name string) bool {
	_, sequence, err := tsm1.DefaultParseFileName(name)
	return err == nil && sequence > 1
}

// checksum reads a file; pause is called after each piece.
func checksum(path string, pause func() error) (size int64, sum uint32, err error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	piece := make([]byte, verifyPiece)
	for {
		n, err := f.Read(piece)
		sum = crc32.Update(sum, castagnoli, piece[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, sum, nil
		}
		if err == nil {
			err = pause()
		}
		if err != nil {
			return 0, 0, err
		}
	}
}

func noPause() error { return nil }

// describe reads a file that was just written and returns its manifest entry.
func describe(path string) (dataFile, error) { return describeWith(path, noPause, nil) }

// describeWith works like describe, and also calls check with a reader of the file. pause is called
// after each piece.
func describeWith(path string, pause func() error, check func(*tsm1.TSMReader) error) (file dataFile, err error) {
	if file.Size, file.Checksum, err = checksum(path, pause); err != nil {
		return file, err
	}
	err = reading(path, func(r *tsm1.TSMReader) error {
		file.Min, file.Max = r.TimeRange()
		if file.Index, err = indexChecksum(path, file.Size); err != nil {
			return err
		}
		if check != nil {
			return check(r)
		}
		return nil
	})
	return file, err
}

// reading opens a data file and calls visit with its reader. The engine's reader trusts what it
// reads, so a damaged file may make it panic or fault; reading returns this as an error.
func reading(path string, visit func(*tsm1.TSMReader) error) (err error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errChanged, p)
		}
	}()
	r, err := tsm1.NewTSMReader(f)
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errChanged, err), f.Close())
	}
	err = visit(r)
	return errors.Join(err, r.Close())
}

// checkBlocks compares each block of a file with the checksum that the engine wrote beside it. The
// bytes between the blocks have no checksum.
func checkBlocks(pause func() error) func(*tsm1.TSMReader) error {
	return func(r *tsm1.TSMReader) error {
		read := 0
		for blocks := r.BlockIterator(); blocks.Next(); {
			_, _, _, _, sum, block, err := blocks.Read()
			if err != nil || sum != crc32.ChecksumIEEE(block) {
				return errChanged
			}
			if read += len(block); read >= verifyPiece {
				read = 0
				if err := pause(); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// verify reads a file and compares it with known, its manifest entry. Without an entry, verify
// checks the blocks of the file and returns a new entry for the manifest.
func verify(path string, known *dataFile, pause func() error) (dataFile, error) {
	if known == nil {
		return describeWith(path, pause, checkBlocks(pause))
	}
	size, sum, err := checksum(path, pause)
	if err == nil && (size != known.Size || sum != known.Checksum) {
		err = errChanged
	}
	return *known, err
}

// verifyFile verifies a file that was not read since the start, and notes that the file is
// verified.
func (l *ledger) verifyFile(name string, pause func() error) error {
	l.mu.Lock()
	todo := l.unverified[name]
	known, ok := l.m.Files[name]
	l.mu.Unlock()
	if !todo {
		return nil
	}
	what := &known
	if !ok {
		what = nil
	}
	file, err := verify(l.path(name), what, pause)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unverified[name] { // the file still exists
		delete(l.unverified, name)
		l.m.Files[name] = file
		if !ok {
			return l.save()
		}
	}
	return nil
}

// verifyShard verifies all files of a shard, also those that were verified before. The engine
// checks no checksum when it merges files, and would write correct checksums over damaged content.
func (l *ledger) verifyShard(shard string) error {
	for _, name := range l.filesOf(shard) {
		if err := l.verifyFile(name, noPause); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		l.mu.Lock()
		known, ok := l.m.Files[name]
		l.mu.Unlock()
		if !ok || known.Pending {
			continue
		}
		_, err := verify(l.path(name), &known, noPause)
		if err == nil || !l.doubt(name) {
			continue
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// filesOf returns the names of the files of a shard.
func (l *ledger) filesOf(shard string) (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.m.Files {
		if path.Dir(name) == shard {
			names = append(names, name)
		}
	}
	for name := range l.unverified {
		if _, ok := l.m.Files[name]; !ok && path.Dir(name) == shard {
			names = append(names, name)
		}
	}
	return names
}

// doubt has a file verified again, and taken out if it is damaged. It reports false if the file no
// longer exists.
func (l *ledger) doubt(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.m.Files[name]; !ok {
		return false
	}
	l.unverified[name] = true
	select {
	case l.doubted <- struct{}{}:
	default:
	}
	return true
}

// toVerify returns the names of the files that were not read yet.
func (l *ledger) toVerify() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.unverified {
		names = append(names, name)
	}
	return names
}

// verifyBehind reads the files that are not verified yet while the engine runs, and takes out the
// damaged ones.
func (s *Store) verifyBehind(ctx context.Context) {
	pause := func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(verifyPause):
			return nil
		}
	}
	for _, name := range s.ledger.toVerify() {
		err := s.ledger.verifyFile(name, pause)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || errors.Is(err, os.ErrNotExist) && !s.ledger.awaits(name):
			continue
		}
		if err := s.takeOut(name, err); err != nil {
			s.o.Logger.Error("a damaged file of InfluxDB cannot be taken out", "file", name, "error", err)
		}
	}
	s.o.Logger.Debug("the files of InfluxDB were verified")
}

// verifyDoubted verifies the files that verifyShard found damaged during a merge, until ctx ends.
func (s *Store) verifyDoubted(ctx context.Context) {
	for {
		select {
		case <-s.ledger.doubted:
			s.verifyBehind(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// awaits reports whether a file is still to be verified.
func (l *ledger) awaits(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unverified[name]
}

// takeOut takes a damaged file out of the running engine.
func (s *Store) takeOut(name string, why error) error {
	return s.restart(func() error {
		if !s.ledger.awaits(name) {
			return nil
		}
		schema := s.meta.Data()
		s.ledger.mu.Lock()
		defer s.ledger.mu.Unlock()
		file := s.ledger.m.Files[name]
		damage := damageOf(name, file, shardsByID(schema), why)
		delete(s.ledger.m.Files, name)
		delete(s.ledger.unverified, name)
		return s.setAside([]influx.Damage{damage}, map[string]dataFile{damage.What: file})
	})
}

// shardOf returns the number of the shard that a file belongs to, 0 if its name has none.
func shardOf(name string) (id uint64) {
	parts := strings.Split(name, "/")
	if len(parts) < 3 {
		return 0
	}
	if _, err := fmt.Sscanf(parts[2], "%d", &id); err != nil {
		return 0
	}
	return id
}
