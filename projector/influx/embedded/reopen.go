package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nanopack/pulse/projector/influx"
)

// spaceBeforeReopen is how many bytes must be writable before the engine is opened again. Opening
// needs some space; without it, queries should go on with the engine as it is.
const spaceBeforeReopen = 1 << 20

// errReopening is the error of a query that a restart of the engine cut short.
var errReopening = errors.New("the engine is being opened again after a failed write; ask again")

// failed notes that the engine could not write. After a failed write to a log or series file every
// later write to that file fails too, even when the disk has space again. So the next Write first
// opens the engine again. A full cache is not such a failure, because the engine empties the cache
// by itself.
func (s *Store) failed(err error) {
	if !strings.Contains(err.Error(), "cache-max-memory-size exceeded") { // the engine has no type for it
		s.broken.Store(true)
	}
}

// reopen closes the engine and opens it again, if a write has failed. While nothing can be written
// to the disk, reopen leaves the engine as it is and returns an error.
func (s *Store) reopen() error {
	if !s.broken.Load() {
		return nil
	}
	if err := s.probe(); err != nil {
		return &influx.Error{Op: "write", Kind: influx.Temporary, Err: err}
	}
	again := false
	err := s.restart(func() error {
		again = s.broken.Load() // false if another write has reopened the engine meanwhile
		return nil
	})
	if err != nil {
		return &influx.Error{Op: "write", Kind: influx.Temporary, Err: err}
	}
	if s.broken.CompareAndSwap(again, false) && again {
		s.o.Logger.Info("InfluxDB's engine was opened again after a failed write")
	}
	return nil
}

// restart closes the engine, calls between, and opens the engine again. Queries are interrupted,
// other calls wait. If the engine's memory cannot be written to files, the engine stays open. If
// the engine does not open, the store returns the reason from its calls until a later restart
// succeeds.
func (s *Store) restart(between func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return nil // enter returns ErrClosed
	}
	s.stop()
	s.calls.Wait() // no new calls begin: they need mu
	if s.down == nil {
		if err := s.flush(context.Background(), ""); err != nil {
			s.resume()
			return err
		}
		if err := s.shutdown(); err != nil {
			s.o.Logger.Warn("closing InfluxDB's engine", "err", err)
		}
	}
	err := between()
	if s.down = s.start(false); s.down != nil {
		return s.down
	}
	return err
}

// probe returns an error if the disk does not take spaceBeforeReopen bytes.
func (s *Store) probe() (err error) {
	path := filepath.Join(s.o.Dir, "probe")
	defer func() {
		if rerr := os.Remove(path); rerr != nil && err == nil {
			err = rerr
		}
	}()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, spaceBeforeReopen))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("a write has failed before, and so does this one: %w", err)
	}
	return nil
}

// interrupted returns the reason why a query was interrupted.
func (s *Store) interrupted() error {
	if s.closing.Load() {
		return &influx.Error{Op: "query", Err: influx.ErrClosed}
	}
	return &influx.Error{Op: "query", Kind: influx.Temporary, Err: errReopening}
}
