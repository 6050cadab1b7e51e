package embedded

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/tsdb"

	"github.com/nanopack/pulse/projector/influx"
)

// ledger keeps the manifest as the engine makes and removes files. A file is noted before it gets
// its name, and forgotten before it goes, so that the manifest never misses a file that need not be
// there.
type ledger struct {
	dir    string // of the store
	schema func() meta.Data

	mu sync.Mutex // guards what follows
	m  manifest
	// unverified are the files that were not read yet since the start: see checksums.go.
	unverified map[string]bool
	damaged    chan struct{} // holds one: there is a damage that is not settled
	doubted    chan struct{} // holds one: a file that was verified is to be verified again
}

var _ tsdb.FileStoreObserver = (*ledger)(nil)

// name is a data file's name in the manifest.
func (l *ledger) name(path string) (name string, ok bool) {
	name, err := filepath.Rel(filepath.Join(l.dir, "data"), strings.TrimSuffix(path, ".tmp"))
	return filepath.ToSlash(name), err == nil && strings.HasSuffix(name, dataSuffix)
}

func (l *ledger) path(name string) string {
	return filepath.Join(l.dir, "data", filepath.FromSlash(name))
}

// FileFinishing implements tsdb.FileStoreObserver: a file is written and gets its name next. An
// error undoes it.
func (l *ledger) FileFinishing(path string) error {
	name, ok := l.name(path)
	if !ok {
		return nil
	}
	if merged(name) {
		// What is merged with others cannot be verified any more.
		if err := l.verifyShard(filepath.ToSlash(filepath.Dir(name))); err != nil {
			return err
		}
	}
	file, err := describe(path)
	if err != nil {
		return err
	}
	file.Pending = true
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.Files[name] = file
	return l.save()
}

// FileUnlinking implements tsdb.FileStoreObserver: a file goes next, and what others have taken
// over from it has its name.
func (l *ledger) FileUnlinking(path string) error {
	name, ok := l.name(path)
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m.Files, name)
	delete(l.unverified, name)
	l.arrived()
	return l.save()
}

// arrived notes which pending files have their names.
func (l *ledger) arrived() (changed bool) {
	for name, file := range l.m.Files {
		if !file.Pending {
			continue
		}
		if _, err := os.Stat(l.path(name)); err == nil {
			file.Pending = false
			l.m.Files[name] = file
			changed = true
		}
	}
	return changed
}

// confirm makes durable what the manifest has to say of everything that was written before the
// call.
func (l *ledger) confirm() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.arrived()
	shards := shardsByID(l.schema())
	maps.DeleteFunc(l.m.Files, func(name string, _ dataFile) bool {
		_, ok := shards[shardOf(name)]
		return !ok // it has expired
	})
	schema := l.schema()
	b, err := schema.MarshalBinary()
	if err != nil {
		return err
	}
	if !changed && bytes.Equal(b, l.m.Schema) {
		return nil
	}
	return l.save()
}

// begin writes the manifest once the engine is open.
func (l *ledger) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.save()
}

// save writes the manifest. mu is held.
func (l *ledger) save() error {
	schema := l.schema()
	b, err := schema.MarshalBinary()
	if err != nil {
		return err
	}
	l.m.Schema = b
	return l.write()
}

// write is save with the schema as it was.
func (l *ledger) write() error {
	content, err := l.m.encode()
	if err == nil {
		err = writeFile(filepath.Join(l.dir, manifestName), content)
	}
	if err != nil {
		return fmt.Errorf("the list of InfluxDB's files: %w", err)
	}
	return nil
}

// file is what the manifest says of a file.
func (l *ledger) file(name string) (dataFile, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.m.Files[name]
	return f, ok
}

// add notes damages. mu is held.
func (l *ledger) add(damages ...influx.Damage) {
	l.m.Damages = append(l.m.Damages, damages...)
	for len(l.m.Damages) > maxDamages {
		oldest := max(slices.IndexFunc(l.m.Damages, func(d influx.Damage) bool { return d.Settled }), 0)
		l.m.Damages = slices.Delete(l.m.Damages, oldest, oldest+1)
	}
	l.wake()
}

func (l *ledger) wake() {
	if slices.ContainsFunc(l.m.Damages, func(d influx.Damage) bool { return !d.Settled }) {
		select {
		case l.damaged <- struct{}{}:
		default:
		}
	}
}

// Damages are what was found damaged in the directory, the oldest first.
func (s *Store) Damages() []influx.Damage {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return slices.Clone(s.ledger.m.Damages)
}

// Note remembers a damage that the store cannot see by itself, durably.
func (s *Store) Note(d influx.Damage) error {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(d)
	return l.write()
}

// Damaged holds a value when there is a damage that is not settled.
func (s *Store) Damaged() <-chan struct{} { return s.ledger.damaged }

// Settle has f say of each damage that is not settled what becomes of it, and remembers that
// durably. The store may find more meanwhile.
func (s *Store) Settle(f func(*influx.Damage)) error {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.m.Damages {
		if d := &l.m.Damages[i]; !d.Settled {
			f(d)
		}
	}
	l.wake()
	return l.write()
}
