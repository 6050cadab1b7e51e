// Package embedded is an influx.Store that needs no InfluxDB: it runs the storage and query engine
// of InfluxDB 1.8 inside this process, with the same schema and the same InfluxQL, in a directory
// of its own.
//
// The store has no log of what was written, because the journal is such a log. The points of a
// Write are in memory until the next Flush writes them to files; from then on they survive kill -9.
// A manifest (manifest.go) lists the files that should exist and what is in them. Open compares the
// files with the manifest. It moves damaged files aside and keeps them; Damages reports every
// damaged or missing file, so that the caller can have its points written again.
//
// Retention and shard creation run in the background. At most Options.MaxQueries statements run at
// a time and further ones wait their turn. Close interrupts queries, waits for writes and leaves
// nothing running. A full disk does not need a restart: the first Write that finds space opens the
// engine again. One process at a time may have a directory open; the caller must hold a lock for
// that.
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

// Version is the answer of Ping: the version of the engine and where it runs.
const Version = "1.8.10+embedded"

// These sizes suit a small daemon beside other work; the engine's own defaults (25 MB, 1 GB) are
// for a machine of its own.
const (
	cacheSnapshot = 8 << 20   // a shard's cache is written to a file at this size
	cacheMax      = 256 << 20 // above this size, writes are refused for a while
)

// Options configures a Store. Only Dir is required.
type Options struct {
	Dir            string        // made with mode 0700 if it is not there
	Logger         *slog.Logger  // the engine's own messages, mostly at debug; nil discards them
	MaxQueries     int           // statements that run at a time; 0 means 4
	QueryTimeout   time.Duration // for queries whose context has no earlier deadline; 0 means 1 minute
	RetentionCheck time.Duration // how often expired data is deleted; 0 means 30 minutes

	// These bound each statement of Read; see read.go.
	ReadPoints  int // points that a SELECT goes through; 0 means 100 million
	ReadCursors int // fields of series in shards that a SELECT reads; 0 means 10,000

	maxValues   int   // limit on a tag's values; 0 means the engine's 100,000. Tests make it small.
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
	if o.ReadPoints <= 0 {
		o.ReadPoints = 100_000_000
	}
	if o.ReadCursors <= 0 {
		o.ReadCursors = 10_000
	}
	if o.RetentionCheck <= 0 {
		o.RetentionCheck = 30 * time.Minute
	}
	return nil
}

// Store is an open engine. Its methods may be called from any goroutine.
type Store struct {
	o Options

	// start makes the engine; restart makes it again while it holds mu and no call is running.
	meta      *meta.Client
	data      *releasing
	points    *coordinator.PointsWriter
	batches   sync.Pool // of *batch
	executor  *query.Executor
	reader    *query.Executor // of Read; it has no way to write
	retention *retention.Service
	precreate *precreator.Service
	stop      context.CancelFunc // interrupts running queries
	stopCh    <-chan struct{}

	ledger    *ledger
	verifying sync.WaitGroup     // the goroutine that verifies files while the engine runs
	doubting  sync.WaitGroup     // the goroutine that verifies doubted files again
	unverify  context.CancelFunc // ends both goroutines

	turns   chan struct{} // one token per running query
	timeout time.Duration
	broken  atomic.Bool // a write failed: see reopen
	closing atomic.Bool // Close was called

	mu    sync.Mutex // guards down and calls.Add: no call begins during Close or restart
	down  error      // why there is no engine: restart could not open it
	calls sync.WaitGroup
	once  sync.Once
	err   error // result of Close
}

var _ influx.Store = (*Store)(nil)

// Open starts the engine on a directory, which it makes if needed, and reads what an earlier run
// left there. This takes milliseconds to seconds, depending on the number of series. Open first
// sets damaged files aside: see Damages.
func Open(o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	for _, dir := range []string{o.Dir, filepath.Join(o.Dir, "meta")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, openError(o.Dir, "the directory", err)
		}
	}
	s := &Store{o: o, turns: make(chan struct{}, o.MaxQueries), timeout: o.QueryTimeout,
		batches: sync.Pool{New: func() any { return new(batch) }}}
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

// start makes the engine and opens it. If start fails, it closes what it has opened. log says that
// the engine must read the log of an earlier release.
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
	dc.WALDir = dc.Dir // the engine makes directories there even without a log
	if log {
		dc.WALDir = filepath.Join(o.Dir, "wal")
	}
	dc.Index = tsdb.InmemIndexName // tsi1 has data races between writes and queries in 1.8.10
	dc.QueryLogEnabled = false
	dc.CacheSnapshotMemorySize, dc.CacheMaxMemorySize = cacheSnapshot, cacheMax
	if o.maxValues > 0 {
		dc.MaxValuesPerTag = o.maxValues
	}
	s.data = &releasing{Store: tsdb.NewStore(dc.Dir)}
	s.data.EngineOptions.Config = dc
	s.data.EngineOptions.EngineVersion = dc.Engine
	s.data.EngineOptions.IndexVersion = dc.Index
	s.data.EngineOptions.WALEnabled = log
	s.data.EngineOptions.FileStoreObserver = s.ledger
	s.data.WithLogger(zap)

	// The points writer serves SELECT INTO and maps points to shards. Write then writes to the
	// shards itself (see write.go).
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
			TSDBStore:  coordinator.LocalTSDBStore{Store: s.data.Store},
		},
	}
	s.executor.WithLogger(zap)
	s.reader = s.newReader()
	s.reader.WithLogger(zap)

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

// resume lets queries run again after stop.
func (s *Store) resume() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.stopCh = cancel, ctx.Done()
}

// openError returns an error that says what could not be opened, and what to do.
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

// Ping answers at once, because the engine is there as long as the store is open.
func (s *Store) Ping(ctx context.Context) (string, error) {
	if err := s.enter("ping", ctx); err != nil {
		return "", err
	}
	defer s.calls.Done()
	return Version, nil
}

// enter counts a call that begins, or returns why the call may not begin. After a nil error the
// caller ends the call with calls.Done.
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

// Close interrupts running queries, waits for the writes under way, writes what is in memory to
// files and closes the files.
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

// shutdown closes what open opened, in the order of InfluxDB's own server: first the parts that use
// the data. Each part may be closed even if it was never opened.
func (s *Store) shutdown() error {
	s.stop()
	s.retention.Close()
	s.precreate.Close()
	s.points.Close()
	s.executor.Close()
	s.reader.Close()
	err := s.data.Close()
	s.meta.Close()
	if err != nil {
		return fmt.Errorf("embedded InfluxDB: close: %w", err)
	}
	return nil
}
