// Package migrations opens Pulse's state file and brings the file and the InfluxDB schema to the
// form that this release needs.
//
// The open state file is the lock of the data dir: one process at a time. A file that is empty, cut
// off, foreign or of a newer release is refused and left unchanged, and the error says what to do.
// Only a data dir without a state file gets a new one. If the data dir has a journal already, Open
// warns, because the registry begins empty then and every projection begins at the journal's first
// record. Steps are numbered and run in order, once each. Each runs in one transaction, which also
// stores the step's number. A step is frozen once released: a change in a later release is a new
// step.
package migrations

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// FileName is the state file's name in the data dir.
const FileName = "pulse.db"

// Keys of the bucket "meta". The journal keeps its marker there as well.
const (
	metaBucket  = "meta"
	keyIdentity = "identity"
	keySchema   = "schema"
	// keySchemaSeal is a sealed copy of the schema's number.
	keySchemaSeal = "schema sealed"
)

// Options of Open; the zero value is fine.
type Options struct {
	Logger *slog.Logger // nil discards
}

// State is the open state file. The database may be used from any goroutine.
type State struct {
	DB       *bbolt.DB
	Identity string // random, made once for this installation
	Created  bool   // the file did not exist before
	// Damages are the values that differed from what was written, found now or at an earlier start,
	// the oldest first.
	Damages []Damage
}

// step changes the state file from one schema to the next.
type step struct {
	name string
	run  func(*bbolt.Tx) error
}

// steps returns the steps in order; the schema's number is how many of them ran.
func steps() []step {
	return []step{
		{"buckets", bolt0001Buckets},
		{"seals", bolt0002Seals},
	}
}

// Open opens the state file of a data dir and runs the steps that have not run yet. It makes the
// directory and the file if they are missing. It waits at most a second for another process. The
// error is an *Error that says what to do.
func Open(dir string, o Options) (*State, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &Error{Path: dir, Err: err}
	}
	path := filepath.Join(dir, FileName)
	missing, err := inspect(path)
	if err != nil {
		return nil, err
	}
	if missing {
		if entries, err := os.ReadDir(filepath.Join(dir, "journal")); err == nil && len(entries) > 0 {
			log.Warn("there is a journal but no state file: beginning with an empty registry, all of the journal is projected again", "path", path)
		}
		if err := createBolt(path); err != nil {
			return nil, err
		}
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	s := &State{DB: db, Created: missing}
	for _, do := range []func() error{func() error { return migrate(db, log) }, func() error { return s.mend(log) }, s.readIdentity} {
		if err = do(); err != nil {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(&Error{Path: path, Err: err}, db.Close())
	}
	return s, nil
}

// Close closes the file, which releases the data dir.
func (s *State) Close() error { return s.DB.Close() }

func (s *State) readIdentity() error {
	return s.DB.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket([]byte(metaBucket)); meta != nil {
			s.Identity = string(seal.Open(meta.Get([]byte(keyIdentity))))
		}
		return nil
	})
}

// migrate checks that the file is Pulse's and runs the steps that have not run on it.
func migrate(db *bbolt.DB, log *slog.Logger) error { return runSteps(db, steps(), log) }

// runSteps is migrate with the given steps. A nil log means that the file is being made: those
// steps are not logged.
func runSteps(db *bbolt.DB, all []step, log *slog.Logger) error {
	have, err := schema(db, len(all))
	if err != nil {
		return err
	}
	for i, step := range all[have:] {
		number := have + i + 1
		if err := db.Update(func(tx *bbolt.Tx) error {
			if err := step.run(tx); err != nil {
				return err
			}
			meta := tx.Bucket([]byte(metaBucket))
			if meta.Get([]byte(keyIdentity)) == nil {
				if err := meta.Put([]byte(keyIdentity), seal.Seal([]byte(keyIdentity), []byte(rand.Text()))); err != nil {
					return err
				}
			}
			if err := meta.Put([]byte(keySchemaSeal), seal.Seal([]byte(keySchemaSeal), []byte(strconv.Itoa(number)))); err != nil {
				return err
			}
			return meta.Put([]byte(keySchema), []byte(strconv.Itoa(number)))
		}); err != nil {
			return fmt.Errorf("step %d (%s): %w", number, step.name, err)
		}
		if log != nil {
			log.Info("the state file was migrated", "step", number, "name", step.name)
		}
	}
	return nil
}

// schema returns the number of steps that ran on the file, 0 for an empty database. The error means
// that the file is not Pulse's or that a step ran which this release does not know.
func schema(db *bbolt.DB, known int) (n int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		name, _ := tx.Cursor().First()
		if name == nil {
			return nil
		}
		meta := tx.Bucket([]byte(metaBucket))
		if meta == nil && bucketIn("", string(name)) != "" {
			return fmt.Errorf("%w: its bucket %q is not there", ErrDamaged, metaBucket)
		}
		if meta == nil {
			return fmt.Errorf("%w (it holds %q)", ErrForeign, bytes.ToValidUTF8(name, []byte("?")))
		}
		if n, err = strconv.Atoi(string(meta.Get([]byte(keySchema)))); err != nil || n < 1 {
			return fmt.Errorf("%w (its schema is %q)", ErrForeign, meta.Get([]byte(keySchema)))
		}
		if n > known {
			return fmt.Errorf("%w (its schema is %d, this pulse knows %d)", ErrNewer, n, known)
		}
		return nil
	})
	return n, err
}
