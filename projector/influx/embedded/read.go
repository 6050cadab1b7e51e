package embedded

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/index/inmem"
	client "github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/projector/influx"
)

// Read implements influx.Store. It takes no turn of Query: the caller bounds how many run at a time.
func (s *Store) Read(ctx context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error {
	if err := influx.CheckReads(r.Statements); err != nil {
		return err
	}
	if err := s.enter("read", ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	inner, stop := context.WithCancel(ctx)
	defer stop()

	interrupt, end := s.interruptible(inner)
	var failed error
	for result := range s.reader.ExecuteQuery(&influxql.Query{Statements: r.Statements}, query.ExecutionOptions{
		Database:         r.Database,
		RetentionPolicy:  r.Policy,
		ChunkSize:        r.ChunkRows,
		ReadOnly:         true,
		Authorizer:       query.OpenAuthorizer,
		CoarseAuthorizer: query.OpenCoarseAuthorizer,
		Quiet:            true,
	}, interrupt) {
		// What comes after an interrupt is the interrupt's own error. The channel is always drained: the
		// executor closes it when it no longer uses the statements.
		if failed != nil || inner.Err() != nil || s.stopped() {
			continue
		}
		if failed = visit(readResult(result)); failed != nil {
			stop()
		}
	}
	end()
	switch {
	case failed != nil:
		return failed
	case s.stopped():
		return s.interrupted()
	}
	return influx.ContextError("read", ctx)
}

func (s *Store) stopped() bool {
	select {
	case <-s.stopCh:
		return true
	default:
		return false
	}
}

// readResult is the engine's result in the form of influx.Store. The values stay as they are.
func readResult(r *query.Result) influx.ReadResult {
	out := influx.ReadResult{Statement: r.StatementID, Partial: r.Partial}
	if r.Err != nil {
		out.Err = r.Err.Error()
	}
	for _, row := range r.Series {
		out.Series = append(out.Series, client.Row{Name: row.Name, Tags: row.Tags, Columns: row.Columns, Values: row.Values, Partial: row.Partial})
	}
	for _, m := range r.Messages {
		out.Messages = append(out.Messages, influx.ReadMessage{Level: m.Level, Text: m.Text})
	}
	return out
}

// newReader makes the executor of Read. It has the parts of the engine that read, within limits,
// and nothing that could write.
func (s *Store) newReader() *query.Executor {
	e := query.NewExecutor()
	e.StatementExecutor = &coordinator.StatementExecutor{
		MetaClient: readingMeta{client: s.meta},
		TSDBStore:  readingData{store: s.data.Store},
		ShardMapper: &coordinator.LocalShardMapper{
			MetaClient: s.meta,
			TSDBStore:  boundedShards{store: s.data.Store, cursors: s.o.ReadCursors},
		},
		MaxSelectPointN: s.o.ReadPoints,
	}
	return e
}

// readingMeta has the methods that read the schema. The others are nil.
type readingMeta struct {
	coordinator.MetaClient
	client *meta.Client
}

func (m readingMeta) Database(name string) *meta.DatabaseInfo { return m.client.Database(name) }
func (m readingMeta) Databases() []meta.DatabaseInfo          { return m.client.Databases() }
func (m readingMeta) RetentionPolicy(database, name string) (*meta.RetentionPolicyInfo, error) {
	return m.client.RetentionPolicy(database, name)
}
func (m readingMeta) ShardGroupsByTimeRange(database, policy string, from, to time.Time) ([]meta.ShardGroupInfo, error) {
	return m.client.ShardGroupsByTimeRange(database, policy, from, to)
}

// readingData has the methods that read the index. The others are nil.
type readingData struct {
	coordinator.TSDBStore
	store *tsdb.Store
}

func (d readingData) MeasurementNames(ctx context.Context, auth query.FineAuthorizer, database string, cond influxql.Expr) ([][]byte, error) {
	return d.store.MeasurementNames(ctx, auth, database, cond)
}
func (d readingData) TagKeys(ctx context.Context, auth query.FineAuthorizer, shards []uint64, cond influxql.Expr) ([]tsdb.TagKeys, error) {
	return d.store.TagKeys(ctx, auth, shards, cond)
}
func (d readingData) TagValues(ctx context.Context, auth query.FineAuthorizer, shards []uint64, cond influxql.Expr) ([]tsdb.TagValues, error) {
	return d.store.TagValues(ctx, auth, shards, cond)
}
func (d readingData) SeriesCardinality(ctx context.Context, database string) (int64, error) {
	return d.store.SeriesCardinality(ctx, database)
}
func (d readingData) MeasurementsCardinality(ctx context.Context, database string) (int64, error) {
	return d.store.MeasurementsCardinality(ctx, database)
}

// boundedShards bounds what a SELECT takes. The engine keeps a cursor open for each field of each
// series in each shard for as long as the SELECT runs, with some kilobytes of values, and starts
// goroutines for them. So the cursors are counted before the first one is made. The engine's own
// limit counts one shard at a time, while it makes them.
type boundedShards struct {
	store   *tsdb.Store
	cursors int
}

// ShardGroup returns the shards that a SELECT reads, with its budget of cursors.
func (b boundedShards) ShardGroup(ids []uint64) tsdb.ShardGroup {
	return &boundedGroup{Shards: tsdb.Shards(b.store.Shards(ids)), limit: b.cursors}
}

type boundedGroup struct {
	tsdb.Shards
	limit int
	open  atomic.Int64 // cursors so far; the engine makes iterators of several fields at a time
}

// CreateIterator is that of tsdb.Shards, within the budget. It never returns an error, but an
// iterator that does: after an error the engine closes the iterators of the other sources, and that
// panics, on a goroutine of its own, where a source has nothing to read.
func (g *boundedGroup) CreateIterator(ctx context.Context, m *influxql.Measurement, opt query.IteratorOptions) (query.Iterator, error) {
	if m.SystemIterator == "" { // those read the index, which is in memory
		if err := g.take(m, opt); err != nil {
			return failedIterator{err}, nil
		}
	}
	itr, err := g.Shards.CreateIterator(ctx, m, opt)
	if err != nil {
		return failedIterator{err}, nil
	}
	return itr, nil
}

// failedIterator is a query.FloatIterator whose first point is an error.
type failedIterator struct{ err error }

func (f failedIterator) Next() (*query.FloatPoint, error) { return nil, f.err }
func (failedIterator) Stats() query.IteratorStats         { return query.IteratorStats{} }
func (failedIterator) Close() error                       { return nil }

// take takes the cursors of an iterator from the budget.
func (g *boundedGroup) take(m *influxql.Measurement, opt query.IteratorOptions) error {
	width := len(opt.Aux)
	if opt.Expr != nil {
		width++
	}
	for _, ref := range influxql.ExprNames(opt.Condition) {
		if ref.Type != influxql.Tag {
			width++
		}
	}
	opt.MaxSeriesN = g.limit // of one shard, counted by the engine
	for _, shard := range g.Shards {
		series, err := seriesOf(shard, m.Name, opt)
		if err != nil {
			return err
		}
		if open := g.open.Add(int64(series * max(1, width))); open > int64(g.limit) {
			return fmt.Errorf("max-select-series limit exceeded: (%d/%d): ask for a shorter time, fewer series or fewer fields", open, g.limit)
		}
		select {
		case <-opt.InterruptCh:
			return query.ErrQueryInterrupted
		default:
		}
	}
	return nil
}

// seriesOf is how many series of a measurement an iterator reads in a shard.
func seriesOf(shard *tsdb.Shard, measurement string, opt query.IteratorOptions) (n int, err error) {
	index, err := shard.Index()
	if err != nil {
		return 0, nil // the shard is being deleted, and is not read
	}
	inmemory, ok := index.(*inmem.ShardIndex)
	if !ok {
		return 0, fmt.Errorf("an index of the kind %T", index)
	}
	sets, err := inmemory.TagSets([]byte(measurement), opt)
	for _, set := range sets {
		n += len(set.SeriesKeys)
	}
	return n, err
}
