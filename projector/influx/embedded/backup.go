package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/engine/tsm1"
)

// AddFile takes one file of a backup: its name below the store's directory, with slashes, its size
// in bytes, and its content. AddFile must read the content to the end before it returns.
type AddFile func(name string, size int64, content io.Reader) error

// Backup passes the schema and every shard to add, with everything that was written before the
// call. Writes and queries go on meanwhile. The files, put into an empty directory, open like a
// store that was closed at that time. A shard that expires during the backup is left out. Backup
// stops when ctx ends or add fails.
func (s *Store) Backup(ctx context.Context, add AddFile) error {
	if err := s.enter("backup", ctx); err != nil {
		return err
	}
	schema := s.meta.Data()
	s.calls.Done()
	if err := addSchema(schema, add); err != nil {
		return fmt.Errorf("embedded InfluxDB: backup of the schema: %w", err)
	}
	// The shards come from the schema, because some of the shards on disk may be newer than it.
	m := manifest{Files: make(map[string]dataFile)}
	for _, id := range shardsOf(schema) {
		if err := s.backupShard(ctx, id, add, &m); err != nil {
			return fmt.Errorf("embedded InfluxDB: backup of shard %d: %w", id, err)
		}
	}
	if err := addManifest(schema, &m, add); err != nil {
		return fmt.Errorf("embedded InfluxDB: backup of the manifest: %w", err)
	}
	return nil
}

func addManifest(schema meta.Data, m *manifest, add AddFile) (err error) {
	if m.Schema, err = schema.MarshalBinary(); err != nil {
		return err
	}
	file, err := m.encode()
	if err != nil {
		return err
	}
	return add(manifestName, int64(len(file)), bytes.NewReader(file))
}

func shardsOf(schema meta.Data) (ids []uint64) {
	for _, database := range schema.Databases {
		for _, policy := range database.RetentionPolicies {
			for _, group := range policy.ShardGroups {
				for _, shard := range group.Shards {
					ids = append(ids, shard.ID)
				}
			}
		}
	}
	return ids
}

func addSchema(schema meta.Data, add AddFile) error {
	file, err := schema.MarshalBinary()
	if err != nil {
		return err
	}
	return add("meta/meta.db", int64(len(file)), bytes.NewReader(file))
}

// addFile adds a file that does not change any more.
func addFile(from, name string, add AddFile) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return add(name, info.Size(), f)
}

// backupShard adds the files of one shard. The files are links that nobody else knows of, so
// reading them is not counted as a call: it takes as long as the receiver likes. m gets the
// manifest's entries of the files. A restored store without an entry reads more to verify the file,
// and is just as correct.
func (s *Store) backupShard(ctx context.Context, id uint64, add AddFile, m *manifest) (err error) {
	links, name, err := s.snapshot(ctx, id)
	if errors.Is(err, tsdb.ErrShardNotFound) {
		return nil // expired
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(links)) }()
	entries, err := os.ReadDir(links)
	if err == nil {
		for _, entry := range entries {
			if err = ctx.Err(); err != nil {
				break
			}
			at := path.Join(name, entry.Name())
			if err = addFile(filepath.Join(links, entry.Name()), path.Join("data", at), add); err != nil {
				break
			}
			if file, ok := s.ledger.file(at); ok {
				file.Pending = false
				m.Files[at] = file
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) && s.expired(ctx, id) {
		return nil // and its links were deleted with it
	}
	return err
}

// snapshot writes what the shard holds in memory to files and makes links to all files of the
// shard. links is the directory of the links; name is the shard's directory, relative to that of
// all data.
func (s *Store) snapshot(ctx context.Context, id uint64) (links, name string, err error) {
	if err := s.enter("backup", ctx); err != nil {
		return "", "", err
	}
	defer s.calls.Done()
	if name, err = s.data.ShardRelativePath(id); err != nil {
		return "", "", tsdb.ErrShardNotFound
	}
	for {
		// The engine may be writing a snapshot by itself, which takes a moment. Without what is in
		// memory the backup would miss acknowledged points.
		links, err = s.data.CreateShardSnapshot(id, false)
		if !errors.Is(err, tsm1.ErrSnapshotInProgress) {
			return links, filepath.ToSlash(name), err
		}
		select {
		case <-ctx.Done():
			return "", "", ctx.Err()
		case <-s.stopCh:
			return "", "", err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// expired reports whether the shard no longer exists.
func (s *Store) expired(ctx context.Context, id uint64) bool {
	if s.enter("backup", ctx) != nil {
		return false
	}
	defer s.calls.Done()
	return s.data.Shard(id) == nil
}
