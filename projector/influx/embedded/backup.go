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

// AddFile takes one file of a backup: its name below the store's directory, with
// slashes, its size in bytes, and its content, which is read to the end before
// it returns.
type AddFile func(name string, size int64, content io.Reader) error

// Backup hands the schema and every shard to add, with all that was written
// before the call, while writes and queries go on. Put in place of an empty
// directory they open as a store that was closed then. A shard that expires
// meanwhile is left out. It stops when ctx ends or add fails.
func (s *Store) Backup(ctx context.Context, add AddFile) error {
	if err := s.enter("backup", ctx); err != nil {
		return err
	}
	schema := s.meta.Data()
	s.calls.Done()
	if err := addSchema(schema, add); err != nil {
		return fmt.Errorf("embedded InfluxDB: backup of the schema: %w", err)
	}
	// Not the shards that there are, of which some may be younger than the schema.
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

// backupShard adds the files of one shard. It is not counted as a call while
// they are read, which takes as long as their receiver likes: they are links
// that nobody else knows of. m gets what the manifest says of them; without that a
// restored store reads more to verify them, and no less is right.
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
		return nil // and took the links along
	}
	return err
}

// snapshot writes what the shard holds in memory to its files and links them
// aside. name is the shard's directory below that of all data.
func (s *Store) snapshot(ctx context.Context, id uint64) (links, name string, err error) {
	if err := s.enter("backup", ctx); err != nil {
		return "", "", err
	}
	defer s.calls.Done()
	if name, err = s.data.ShardRelativePath(id); err != nil {
		return "", "", tsdb.ErrShardNotFound
	}
	for {
		// A snapshot of its own may be under way, which takes a moment. Without
		// what is in memory the backup would miss acknowledged points.
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

// expired tells whether the shard is gone.
func (s *Store) expired(ctx context.Context, id uint64) bool {
	if s.enter("backup", ctx) != nil {
		return false
	}
	defer s.calls.Done()
	return s.data.Shard(id) == nil
}
