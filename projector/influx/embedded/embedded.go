// Package embedded is an influx.Store that needs no InfluxDB: the storage and
// query engine of InfluxDB 1.8 inside this process, with the same schema and
// the same InfluxQL, in a directory of its own.
//
// There is no log of what was written: the journal is that. What a Write took is
// in memory until the next Flush writes it to files, and survives kill -9 from
// then on. A manifest (manifest.go) says which files there ought to be and what
// is in them. Open compares: what is missing or damaged is moved aside, kept,
// and told by Damages, so that the caller can have it written again.
//
// Retention and shard creation run in the background; at most
// Options.MaxQueries statements run at a time and further ones wait their turn.
// Close interrupts queries, waits for writes and leaves nothing running. A disk
// that was full is no reason to restart: the engine is opened again by the first
// Write that finds space. One process at a time may have a directory open; the
// caller holds that lock.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/services/precreator"
	"github.com/influxdata/influxdb/services/retention"
	"github.com/influxdata/influxdb/toml"
	"github.com/influxdata/influxdb/tsdb"
	_ "github.com/influxdata/influxdb/tsdb/engine" // registers tsm1
	_ "github.com/influxdata/influxdb/tsdb/index"  // registers inmem

	"github.com/nanopack/pulse/projector/influx"
)

// Version is what Ping answers: the engine's version and where it runs.
const Version = "1.8.10+embedded"

// Sizes chosen for a small daemon beside other work; the engine's own defaults
// (25 MB, 1 GB) are for a machine of its own.
const (
	cacheSnapshot = 8 << 20   // a shard's cache is written to a file at this size
	cacheMax      = 256 << 20 // and beyond this, writes are refused for a while
)

// Options configures a Store. Only Dir is required.
type Options struct {
	Dir            string        // made with mode 0700 if it is not there
	Logger         *slog.Logger  // the engine's own messages, mostly at debug; nil discards them
	MaxQueries     int           // statements that run at a time; 0 means 4
	QueryTimeout   time.Duration // for queries whose context has no earlier deadline; 0 means 1 minute
	RetentionCheck time.Duration // how often expired data is deleted; 0 means 30 minutes

	maxValues   int   // of a tag; 0 means the engine's 100,000. Tests make it small.
	verifyLimit int64 // 0 means verifyAtOnce. Tests make it small.
}

func (o *Options) validate() error {
	if o.Dir == "" {
		return fmt.Errorf("embedded InfluxDB: Options.Dir is empty: name the directory that holds the data")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxQueries <= 0 {
		o.MaxQueries = 4
	}
	if o.QueryTimeout <= 0 {
		o.QueryTimeout = time.Minute
	}
	if o.verifyLimit == 0 {
		o.verifyLimit = verifyAtOnce
	}
	if o.RetentionCheck <= 0 {
		o.RetentionCheck = 30 * time.Minute
	}
	return nil
}

// Store is the engine. Its methods may be called from any goroutine.
type Store struct {
	o Options

	// The engine: made by start, and again by reopen, which has mu and waits for calls.
	meta      *meta.Client
	data      *tsdb.Store
	points    *coordinator.PointsWriter
	executor  *query.Executor
	retention *retention.Service
	precreate *precreator.Service
	stop      context.CancelFunc // interrupts running queries
	stopCh    <-chan struct{}

	ledger    *ledger
	verifying sync.WaitGroup     // the goroutine that reads files behind the engine
	doubting  sync.WaitGroup     // the goroutine that reads files again
	unverify  context.CancelFunc // ends both

	turns   chan struct{} // one token per running query
	timeout time.Duration
	broken  atomic.Bool // a write failed: see reopen
	closing atomic.Bool // Close was called

	mu    sync.Mutex // guards down, and calls.Add against Close and reopen
	down  error      // why there is no engine: reopen could not open it
	calls sync.WaitGroup
	once  sync.Once
	err   error // of Close
}

var _ influx.Store = (*Store)(nil)

// Open starts the engine on a directory, which it makes if needed, and reads
// what an earlier run left there: milliseconds to seconds, by the number of
// series. What is damaged there is set aside first: see Damages.
func Open(o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	for _, dir := range []string{o.Dir, filepath.Join(o.Dir, "meta")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, openError(o.Dir, "the directory", err)
		}
	}
	s := &Store{o: o, turns: make(chan struct{}, o.MaxQueries), timeout: o.QueryTimeout}
	s.ledger = &ledger{dir: o.Dir, schema: func() meta.Data { return s.meta.Data() }, damaged: make(chan struct{}, 1), doubted: make(chan struct{}, 1)}
	f, err := examine(o.Dir, o.verifyLimit)
	if err != nil {
		return nil, openError(o.Dir, "the directory", err)
	}
	if err := s.mend(f); err != nil {
		return nil, openError(o.Dir, "the directory", err)
	}
	if f.log {
		if err := s.importLog(); err != nil {
			return nil, err
		}
	}
	if err := s.startWhole(); err != nil {
		return nil, err
	}
	if err := s.ledger.begin(); err != nil {
		return nil, errors.Join(openError(o.Dir, "the directory", err), s.shutdown())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.unverify = cancel
	s.doubting.Go(func() { s.verifyDoubted(ctx) })
	if len(f.unverified) > 0 {
		s.verifying.Go(func() { s.verifyBehind(ctx) })
	}
	return s, nil
}

// start makes the engine and opens it. What it opened is closed again when it
// fails. log says that there is the log of an earlier release to be read.
func (s *Store) start(log bool) error {
	o, zap := s.o, newZap(s.o.Logger)
	s.resume()

	mc := meta.NewConfig()
	mc.Dir = filepath.Join(o.Dir, "meta")
	mc.RetentionAutoCreate = false // the schema names its own policies
	s.meta = meta.NewClient(mc)
	s.meta.WithLogger(zap)

	dc := tsdb.NewConfig()
	dc.Dir = filepath.Join(o.Dir, "data")
	dc.WALDir = dc.Dir // the engine makes directories there, log or not
	if log {
		dc.WALDir = filepath.Join(o.Dir, "wal")
	}
	dc.Index = tsdb.InmemIndexName // tsi1 has data races between writes and queries in 1.8.10
	dc.QueryLogEnabled = false
	dc.CacheSnapshotMemorySize, dc.CacheMaxMemorySize = cacheSnapshot, cacheMax
	if o.maxValues > 0 {
		dc.MaxValuesPerTag = o.maxValues
	}
	s.data = tsdb.NewStore(dc.Dir)
	s.data.EngineOptions.Config = dc
	s.data.EngineOptions.EngineVersion = dc.Engine
	s.data.EngineOptions.IndexVersion = dc.Index
	s.data.EngineOptions.WALEnabled = log
	s.data.EngineOptions.FileStoreObserver = s.ledger
	s.data.WithLogger(zap)

	// The points writer serves SELECT INTO and tells which shard a point
	// belongs to; Write then goes to the shards itself (see write.go).
	s.points = coordinator.NewPointsWriter()
	s.points.MetaClient, s.points.TSDBStore = s.meta, s.data
	s.points.WithLogger(zap)

	s.executor = query.NewExecutor()
	s.executor.StatementExecutor = &coordinator.StatementExecutor{
		MetaClient:   s.meta,
		TaskManager:  s.executor.TaskManager,
		TSDBStore:    s.data,
		PointsWriter: s.points,
		ShardMapper: &coordinator.LocalShardMapper{
			MetaClient: s.meta,
			TSDBStore:  coordinator.LocalTSDBStore{Store: s.data},
		},
	}
	s.executor.WithLogger(zap)

	// Without this service nothing ever expires.
	rc := retention.NewConfig()
	rc.CheckInterval = toml.Duration(o.RetentionCheck)
	s.retention = retention.NewService(rc)
	s.retention.MetaClient, s.retention.TSDBStore = s.meta, s.data
	s.retention.WithLogger(zap)
	s.precreate = precreator.NewService(precreator.NewConfig())
	s.precreate.MetaClient = s.meta
	s.precreate.WithLogger(zap)

	if err := s.open(); err != nil {
		s.shutdown()
		return err
	}
	return nil
}

// resume lets queries run.
func (s *Store) resume() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.stopCh = cancel, ctx.Done()
}

// openError says what could not be opened, and what to do.
func openError(dir, what string, err error) error {
	advice := fmt.Sprintf("restore %s from a backup, or move it away: it is filled again with what the journal holds", dir)
	if errors.Is(err, fs.ErrPermission) {
		advice = "let this user read and write all of " + dir
	}
	return fmt.Errorf("--influx-address embedded: %s cannot be opened: %w; %s", what, err, advice)
}

func (s *Store) open() error {
	for _, step := range []struct {
		what string
		open func() error
	}{
		{"the schema in " + filepath.Join(s.o.Dir, "meta", "meta.db"), s.meta.Open},
		{"the data", s.data.Open},
		{"the writer", s.points.Open},
		{"shard creation", s.precreate.Open},
		{"retention", s.retention.Open},
	} {
		if err := step.open(); err != nil {
			return openError(s.o.Dir, step.what, err)
		}
	}
	return nil
}

// Ping answers at once: the engine is there as long as the store is open.
func (s *Store) Ping(ctx context.Context) (string, error) {
	if err := s.enter("ping", ctx); err != nil {
		return "", err
	}
	defer s.calls.Done()
	return Version, nil
}

// enter counts a call in, or says why it may not begin. The caller ends it
// with calls.Done.
func (s *Store) enter(op string, ctx context.Context) error {
	if err := influx.ContextError(op, ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return &influx.Error{Op: op, Err: influx.ErrClosed}
	}
	if s.down != nil {
		return &influx.Error{Op: op, Kind: influx.Temporary, Err: s.down}
	}
	s.calls.Add(1)
	return nil
}

// Close interrupts running queries, waits for writes under way, writes what is
// in memory to files and closes them.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.closing.Store(true)
		s.unverify()
		s.verifying.Wait()
		s.doubting.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stop()
		s.calls.Wait()
		if s.down == nil {
			s.err = errors.Join(s.flush(context.Background(), ""), s.shutdown())
		}
	})
	return s.err
}

// shutdown closes what open opened, in the order InfluxDB's own server does:
// those that use the data first. Each of them may be closed unopened.
func (s *Store) shutdown() error {
	s.stop()
	s.retention.Close()
	s.precreate.Close()
	s.points.Close()
	s.executor.Close()
	err := s.data.Close()
	s.meta.Close()
	if err != nil {
		return fmt.Errorf("embedded InfluxDB: close: %w", err)
	}
	return nil
}
