package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/projector/influx"

	"github.com/nanopack/pulse/internal/plainfile"
)

// findings is what examine found in a directory.
type findings struct {
	manifest manifest // without the damaged files, and with the files that were found intact
	// unverified are the files that were not read, because there are too many of them.
	unverified map[string]bool
	damages    []influx.Damage
	// damaged are the damaged files that may hold intact blocks, by Damage.What.
	damaged map[string]dataFile
	// schema is the schema in force. restore says that meta.db must be written again with it.
	schema  meta.Data
	restore bool
	log     bool // an earlier release kept a log here
	files   int
	bytes   int64
}

// shardTime is what the schema contains about a shard.
type shardTime struct {
	policy   influx.Policy
	from, to time.Time // to is excluded
	keep     time.Duration
}

// shardsByID returns the shards that the schema contains, except deleted ones.
func shardsByID(schema meta.Data) map[uint64]shardTime {
	shards := make(map[uint64]shardTime)
	for _, database := range schema.Databases {
		for _, policy := range database.RetentionPolicies {
			for _, group := range policy.ShardGroups {
				if group.Deleted() {
					continue
				}
				for _, shard := range group.Shards {
					shards[shard.ID] = shardTime{influx.Policy(policy.Name), group.StartTime, group.EndTime, policy.Duration}
				}
			}
		}
	}
	return shards
}

// examine compares the content of a directory with its manifest, and changes nothing. It reads the
// files if they have limit bytes at most.
func examine(dir string, limit int64) (f *findings, err error) {
	f = &findings{manifest: manifest{Files: make(map[string]dataFile)}, unverified: make(map[string]bool), damaged: make(map[string]dataFile)}
	found, total, err := dataFiles(dir)
	if err != nil {
		return nil, err
	}
	f.files, f.bytes = len(found), total
	_, err = os.Lstat(filepath.Join(dir, "wal"))
	f.log = err == nil
	m, err := readManifest(dir)
	switch {
	case errors.Is(err, errManifest):
		// The list of the files that should exist is lost.
		f.everything(manifestName, err, time.Time{})
	case err != nil:
		return nil, err
	case f.log:
		m = nil // that release did not keep a manifest up to date
	}
	if m != nil {
		f.manifest.Damages = m.Damages
	} else if err == nil {
		// Either an earlier release wrote the files: it kept no manifest, and its log has no
		// checksums. Or somebody removed the manifest, and perhaps files with it. The files cannot
		// be verified, but the journal can write their points again.
		if _, err := os.Lstat(filepath.Join(dir, "meta", "meta.db")); err == nil {
			f.everything(manifestName, errUnverified, time.Time{})
		}
	}
	if whole, err := f.examineSchema(dir, m, len(found) > 0); err != nil || !whole {
		return f, err
	}
	f.examineFiles(dir, m, found, total <= limit)
	return f, nil
}

// everything notes, for both policies, that any point since from may be missing. A zero from means
// that it is not known whether any point is missing.
func (f *findings) everything(what string, why error, from time.Time) {
	for _, policy := range []influx.Policy{influx.PolicyRaw, influx.PolicyAggregate} {
		f.damages = append(f.damages, influx.Damage{Found: now(), What: what, Why: why.Error(), Policy: policy, From: from, To: now()})
	}
}

func now() time.Time { return time.Now().UTC() }

// examineSchema decides which schema is right: meta.db, or its copy in the manifest. whole reports
// whether there is a right one. It is true for a new directory, too.
func (f *findings) examineSchema(dir string, m *manifest, data bool) (whole bool, err error) {
	name := filepath.Join("meta", "meta.db")
	file, err := plainfile.ReadFile(filepath.Join(dir, name))
	missing := errors.Is(err, fs.ErrNotExist)
	special := errors.Is(err, plainfile.ErrNotPlain)
	if err != nil && !missing && !special {
		return false, err
	}
	var cause error
	switch {
	case special:
		cause = err
	case missing && m == nil && !data:
		return true, nil // this is a new directory
	case missing:
		cause = errGone
	default:
		if f.schema, cause = decodeSchema(file); cause == nil && m != nil {
			var noted meta.Data
			if noted, cause = decodeSchema(m.Schema); cause == nil && !continues(f.schema, noted) {
				cause = errors.New("it is not what was noted of it last")
			}
		}
	}
	if cause == nil {
		return true, nil
	}
	if m != nil {
		if f.schema, err = decodeSchema(m.Schema); err == nil {
			f.restore = true
			f.damages = append(f.damages, influx.Damage{Found: now(), What: filepath.ToSlash(name), Why: cause.Error()})
			return true, nil
		}
	}
	// Without a schema the times of the files are unknown.
	f.everything(filepath.ToSlash(name), cause, time.Unix(0, 0).UTC())
	f.damages = append(f.damages, influx.Damage{Found: now(), What: "data", Why: "the schema that belongs to it is damaged"})
	f.restore, f.schema = true, meta.Data{}
	return false, nil
}

var (
	errGone       = errors.New("it is gone")
	errUnverified = errors.New("there is none that says what there was: an earlier release wrote these files, or it was removed")
)

// decodeSchema reads the content of a meta.db.
func decodeSchema(file []byte) (schema meta.Data, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	if len(file) == 0 {
		return schema, errors.New("it is empty")
	}
	return schema, schema.UnmarshalBinary(file)
}

// continues reports whether a schema can have come from an earlier one: everything of the earlier
// one that has not expired is in it, unchanged.
func continues(schema, earlier meta.Data) bool {
	if schema.MaxShardID < earlier.MaxShardID || schema.MaxShardGroupID < earlier.MaxShardGroupID || len(schema.Databases) < len(earlier.Databases) {
		return false
	}
	shards, at := shardsByID(schema), time.Now()
	for id, was := range shardsByID(earlier) {
		is, ok := shards[id]
		if !ok && was.expired(was.to, at) {
			continue
		}
		if !ok || is.policy != was.policy || !is.from.Equal(was.from) || !is.to.Equal(was.to) {
			return false
		}
	}
	for _, was := range earlier.Databases {
		is := schema.Database(was.Name)
		if is == nil || is.DefaultRetentionPolicy != was.DefaultRetentionPolicy {
			return false
		}
		for _, policy := range was.RetentionPolicies {
			p := is.RetentionPolicy(policy.Name)
			if p == nil || p.Duration != policy.Duration || p.ShardGroupDuration != policy.ShardGroupDuration || p.ReplicaN != policy.ReplicaN {
				return false
			}
		}
	}
	return true
}

// expired reports whether a point of time t is older than the policy keeps points.
func (s shardTime) expired(t, at time.Time) bool { return s.keep > 0 && t.Add(s.keep).Before(at) }

// dataFiles returns the sizes of the files of points in a directory, by their names in the
// manifest, and the total size.
func dataFiles(dir string) (files map[string]int64, total int64, err error) {
	files = make(map[string]int64)
	data := filepath.Join(dir, "data")
	err = filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == tsdb.SeriesFileDirectory || strings.HasSuffix(entry.Name(), ".tmp") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, dataSuffix) && !strings.HasSuffix(path, dataSuffix+".bad") {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(data, path)
		files[filepath.ToSlash(name)] = info.Size()
		total += info.Size()
		return err
	})
	return files, total, err
}

// examineFiles compares the files with the manifest, if there is one. It also reads the files if
// read is true.
func (f *findings) examineFiles(dir string, m *manifest, found map[string]int64, read bool) {
	shards, at := shardsByID(f.schema), time.Now()
	if m == nil {
		m = &manifest{}
	}
	for name, file := range m.Files {
		size, there := found[name]
		shard, known := shards[shardOf(name)]
		switch {
		case there && size != file.Size:
			f.damage(name, file, shards, fmt.Errorf("it has %d bytes instead of %d", size, file.Size))
		case there:
			file.Pending = false
			f.examineFile(dir, name, &file, shards, read)
		case !file.Pending && known && !shard.expired(time.Unix(0, file.Max), at):
			f.damage(name, file, shards, errGone)
		}
	}
	for name := range found {
		if _, ok := m.Files[name]; ok {
			continue
		}
		if strings.HasSuffix(name, ".bad") {
			f.damage(name, dataFile{}, shards, errors.New("an earlier release could not read it"))
			continue
		}
		f.examineFile(dir, name, nil, shards, read)
	}
	if f.restore {
		f.strayShards(dir, shards)
	}
}

func (f *findings) examineFile(dir, name string, known *dataFile, shards map[uint64]shardTime, read bool) {
	if !read {
		// A file that the engine cannot open would make it leave out the whole shard, so open each
		// file here.
		if err := reading(filepath.Join(dir, "data", filepath.FromSlash(name)), func(*tsm1.TSMReader) error { return nil }); err != nil {
			file := dataFile{}
			if known != nil {
				file = *known
			}
			f.damage(name, file, shards, err)
			return
		}
		f.unverified[name] = true
		if known != nil {
			f.manifest.Files[name] = *known
		}
		return
	}
	file, err := verify(filepath.Join(dir, "data", filepath.FromSlash(name)), known, noPause)
	if err != nil {
		f.damage(name, file, shards, err)
		f.damaged[path.Join("data", name)] = file
		return
	}
	f.manifest.Files[name] = file
}

func (f *findings) damage(name string, file dataFile, shards map[uint64]shardTime, why error) {
	f.damages = append(f.damages, damageOf(name, file, shards, why))
}

// damageOf returns the damage of a data file. Its times are those of the manifest's entry, or else
// those of the shard.
func damageOf(name string, file dataFile, shards map[uint64]shardTime, why error) influx.Damage {
	d := influx.Damage{Found: now(), What: path.Join("data", name), Why: why.Error()}
	shard, ok := shards[shardOf(name)]
	if !ok {
		return d // the schema does not have its shard, so nobody saw its points
	}
	d.Policy, d.From, d.To = shard.policy, shard.from.UTC(), shard.to.Add(-1).UTC()
	if file.Size > 0 && file.Max != 0 {
		d.From, d.To = time.Unix(0, file.Min).UTC(), time.Unix(0, file.Max).UTC()
	}
	return d
}

// strayShards notes as damaged the directories of shards that the restored, older schema does not
// have. Their numbers will be used again.
func (f *findings) strayShards(dir string, shards map[uint64]shardTime) {
	paths, _ := filepath.Glob(filepath.Join(dir, "data", "*", "*", "*")) // the pattern is valid
	for _, p := range paths {
		name, err := filepath.Rel(filepath.Join(dir, "data"), p)
		name = filepath.ToSlash(name)
		if err != nil || strings.Contains(name, tsdb.SeriesFileDirectory) {
			continue
		}
		if _, ok := shards[shardOf(name)]; !ok {
			for file := range f.manifest.Files {
				if strings.HasPrefix(file, name+"/") {
					delete(f.manifest.Files, file)
					delete(f.unverified, file)
				}
			}
			f.damages = append(f.damages, influx.Damage{Found: now(), What: path.Join("data", name), Why: "it is younger than the schema that could be restored"})
		}
	}
}
