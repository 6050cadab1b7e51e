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

// ledger keeps the manifest up to date while the engine makes and removes files. The manifest gets
// a file before the file has its final name, and loses it before the file is deleted. So the
// manifest never reports a file as missing that need not exist.
type ledger struct {
	dir    string // the directory of the store
	schema func() meta.Data

	mu sync.Mutex // guards the fields below
	m  manifest
	// unverified are the files that were not read since the start: see checksums.go.
	unverified map[string]bool
	damaged    chan struct{} // holds one value: a damage is not settled
	doubted    chan struct{} // holds one value: a verified file is to be verified again
}

var _ tsdb.FileStoreObserver = (*ledger)(nil)

// name returns the name in the manifest of the data file at path. ok is false if the file is not a
// data file.
func (l *ledger) name(path string) (name string, ok bool) {
	name, err := filepath.Rel(filepath.Join(l.dir, "data"), strings.TrimSuffix(path, ".tmp"))
	return filepath.ToSlash(name), err == nil && strings.HasSuffix(name, dataSuffix)
}

func (l *ledger) path(name string) string {
	return filepath.Join(l.dir, "data", filepath.FromSlash(name))
}

// FileFinishing implements tsdb.FileStoreObserver. The engine calls it when a file is written,
// before the file gets its final name. After an error the engine does not keep the file.
func (l *ledger) FileFinishing(path string) error {
	name, ok := l.name(path)
	if !ok {
		return nil
	}
	if merged(name) {
		// After a merge the merged files cannot be verified any more.
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

// FileUnlinking implements tsdb.FileStoreObserver. The engine calls it before it deletes a file.
// The files that replace the deleted one have their final names by then.
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

// arrived notes which pending files have their final names, and reports whether any of them has. mu
// is held.
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

// confirm makes the manifest durable, with the files and the schema of everything that was written
// before the call.
func (l *ledger) confirm() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.arrived()
	shards := shardsByID(l.schema())
	maps.DeleteFunc(l.m.Files, func(name string, _ dataFile) bool {
		_, ok := shards[shardOf(name)]
		return !ok // the shard has expired
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

// begin writes the manifest when the engine has been opened.
func (l *ledger) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.save()
}

// save writes the manifest with the current schema. mu is held.
func (l *ledger) save() error {
	schema := l.schema()
	b, err := schema.MarshalBinary()
	if err != nil {
		return err
	}
	l.m.Schema = b
	return l.write()
}

// write writes the manifest without taking the schema from the engine. mu is held.
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

// file returns the manifest's entry of a file. The second result is false if there is none.
func (l *ledger) file(name string) (dataFile, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.m.Files[name]
	return f, ok
}

// add notes damages. When there are more than maxDamages, it forgets the oldest settled one first.
// mu is held.
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

// Damages returns the damages that were found in the directory, the oldest first.
func (s *Store) Damages() []influx.Damage {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return slices.Clone(s.ledger.m.Damages)
}

// Note records a damage that the store cannot detect by itself, durably.
func (s *Store) Note(d influx.Damage) error {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(d)
	return l.write()
}

// Damaged returns a channel that holds a value when a damage is not settled.
func (s *Store) Damaged() <-chan struct{} { return s.ledger.damaged }

// Settle calls f for each damage that is not settled; f records in the damage what is done about
// it. Settle then saves the damages durably. f runs under the ledger's mutex. The store may find
// more damages meanwhile.
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
