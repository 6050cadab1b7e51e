package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/projector/influx"
)

// mend makes a directory one that the engine can open: it moves damaged files aside and notes them.
func (s *Store) mend(f *findings) error {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m, l.unverified = f.manifest, f.unverified
	var err error
	if l.m.Schema, err = f.schema.MarshalBinary(); err != nil {
		return err
	}
	l.wake()
	if len(f.damages) > 0 {
		if err := s.setAside(f.damages, f.damaged); err != nil {
			return err
		}
	}
	if f.restore && len(f.schema.Databases) > 0 {
		if err := writeFile(filepath.Join(s.o.Dir, "meta", "meta.db"), l.m.Schema); err != nil {
			return err
		}
	}
	return removeDerived(s.o.Dir)
}

// removeDerived removes the files that the engine makes again from the data files, as it does after
// a restore. So these files are never damaged.
func removeDerived(dir string) error {
	for _, pattern := range []string{filepath.Join("*", tsdb.SeriesFileDirectory), filepath.Join("*", "*", "*", "fields.idx*")} {
		paths, err := filepath.Glob(filepath.Join(dir, "data", pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// setAside notes the damages and then moves the damaged files aside. After a crash in between, the
// next Open finds the damaged files again. known holds the manifest entries of the files whose
// intact blocks stay. The ledger's mu is held.
func (s *Store) setAside(damages []influx.Damage, known map[string]dataFile) error {
	to := "aside-" + now().Format("20060102T150405Z")
	salvaged := make(map[string]bool)
	for i := range damages {
		d := &damages[i]
		file, ok := known[d.What]
		salvaged[d.What] = ok && s.salvage(d, file)
		if _, err := os.Lstat(s.below(d.What)); err == nil {
			d.Aside = path.Join(to, d.What)
		}
	}
	s.ledger.add(damages...)
	for _, d := range damages {
		s.o.Logger.Warn("InfluxDB's files are not as they were written", "what", s.below(d.What), "why", d.Why, "aside", d.Aside)
		if d.What == manifestName { // it is written again next
			if err := s.move(d); err != nil {
				return err
			}
		}
	}
	if err := s.ledger.write(); err != nil {
		return err
	}
	for _, d := range damages {
		if d.What == manifestName {
			continue
		}
		if err := s.move(d); err != nil {
			return err
		}
		if salvaged[d.What] {
			if err := os.Rename(s.below(d.What)+salvageSuffix, s.below(d.What)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) move(d influx.Damage) error {
	if d.Aside == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.below(d.Aside)), 0o700); err != nil {
		return err
	}
	if err := os.Rename(s.below(d.What), s.below(d.Aside)); !errors.Is(err, fs.ErrNotExist) { // moved with its directory, perhaps
		return err
	}
	return nil
}

func (s *Store) below(name string) string { return filepath.Join(s.o.Dir, filepath.FromSlash(name)) }

// importLog takes over the log of an earlier release: it writes the points of the log to files. It
// cuts off the unreadable end of a segment and keeps a copy of the segment aside.
func (s *Store) importLog() error {
	l, wal := s.ledger, filepath.Join(s.o.Dir, "wal")
	segments, err := filepath.Glob(filepath.Join(wal, "*", "*", "*", tsm1.WALFilePrefix+"*."+tsm1.WALFileExtension))
	if err != nil {
		return err
	}
	for _, path := range segments {
		if err := s.mendLog(path); err != nil {
			return err
		}
	}
	if len(segments) > 0 {
		s.o.Logger.Info("InfluxDB's log of an earlier release is written into its files; there is none from now on", "segments", len(segments))
		if err := s.start(true); err != nil {
			return err
		}
		if err := errors.Join(s.flush(context.Background(), ""), s.shutdown()); err != nil {
			return openError(s.o.Dir, "the log", err)
		}
	}
	// Remove the log in one step, because the next Open would take half a log for a damaged one.
	gone := filepath.Join(s.o.Dir, "wal.gone")
	if err := errors.Join(os.RemoveAll(gone), os.Rename(wal, gone), os.RemoveAll(gone)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write()
}

// mendLog cuts off the unreadable end of a log segment, from the first invalid entry on: the engine
// would throw it away. It first copies the whole segment aside.
func (s *Store) mendLog(path string) (err error) {
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
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	schema, err := decodeSchema(l.m.Schema)
	if err != nil {
		return err
	}
	d, err := logDamage(s.o.Dir, path, good, info.Size(), shardsByID(schema))
	if err != nil {
		return err
	}
	d.Aside = fmt.Sprintf("aside-%s/%s", now().Format("20060102T150405Z"), d.What)
	if err := copyFile(f, s.below(d.Aside)); err != nil {
		return err
	}
	s.o.Logger.Warn("the end of InfluxDB's log cannot be read; it was cut off, and the whole is kept", "path", path, "why", d.Why, "aside", d.Aside)
	l.add(*d)
	if err := l.write(); err != nil {
		return err
	}
	return errors.Join(f.Truncate(good), f.Sync())
}

// logDamage returns the damage of a log segment of size bytes that can be read up to byte good.
func logDamage(dir, path string, good, size int64, shards map[uint64]shardTime) (*influx.Damage, error) {
	name, err := filepath.Rel(filepath.Join(dir, "wal"), path)
	if err != nil {
		return nil, err
	}
	name = filepath.ToSlash(name)
	d := damageOf(name, dataFile{}, shards, fmt.Errorf("%d bytes from %d on cannot be read", size-good, good))
	d.What = "wal/" + name
	return &d, nil
}

func copyFile(from io.ReadSeeker, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = from.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(f, from)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// unopened returns a damage for each directory of a shard that the engine has left out because it
// could not open it. The engine reports such a shard in its log only.
func (s *Store) unopened() (damages []influx.Damage) {
	schema := s.meta.Data()
	shards := shardsByID(schema)
	paths, _ := filepath.Glob(filepath.Join(s.o.Dir, "data", "*", "*", "*")) // the pattern is valid
	for _, p := range paths {
		name, err := filepath.Rel(filepath.Join(s.o.Dir, "data"), p)
		name = filepath.ToSlash(name)
		id := shardOf(name)
		if err != nil || strings.Contains(name, tsdb.SeriesFileDirectory) || id != 0 && s.data.Shard(id) != nil {
			continue
		}
		damages = append(damages, damageOf(name, dataFile{}, shards, errors.New("the engine cannot open it")))
	}
	return damages
}

// forget removes the files of directories that were moved aside from the manifest. mu is held.
func (l *ledger) forget(damages []influx.Damage) {
	for _, d := range damages {
		for name := range l.m.Files {
			if strings.HasPrefix("data/"+name, d.What+"/") {
				delete(l.m.Files, name)
				delete(l.unverified, name)
			}
		}
	}
}

// mendPatience is how often the engine is opened at most, each time without the shards that it
// could not open before.
const mendPatience = 3

// startWhole starts the engine with all shards that can be opened, and moves the others aside.
func (s *Store) startWhole() error {
	for range mendPatience {
		if err := s.start(false); err != nil {
			return err
		}
		damages := s.unopened()
		if len(damages) == 0 {
			return nil
		}
		if err := s.shutdown(); err != nil {
			return err
		}
		s.ledger.mu.Lock()
		s.ledger.forget(damages)
		err := s.setAside(damages, nil)
		s.ledger.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return openError(s.o.Dir, "the data", errors.New("there are always more shards that cannot be opened"))
}
