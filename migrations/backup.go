package migrations

import (
	"bytes"
	"io"

	"go.etcd.io/bbolt"
)

// Backup passes to add a copy of the state file as of one moment, while other goroutines read and
// write. The file is small. It is copied to memory first, so that a slow receiver keeps no
// transaction open.
func (s *State) Backup(add func(name string, size int64, content io.Reader) error) error {
	var file bytes.Buffer
	err := s.DB.View(func(tx *bbolt.Tx) error {
		file.Grow(int(tx.Size()))
		_, err := tx.WriteTo(&file)
		return err
	})
	if err != nil {
		return &Error{Path: s.DB.Path(), Err: err}
	}
	return add(FileName, int64(file.Len()), &file)
}
