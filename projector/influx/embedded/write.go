package embedded

import (
	"context"
	"errors"
	"slices"

	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"

	"github.com/nanopack/pulse/projector/influx"
)

// chunk is how many points are passed to the engine at once: enough to spread the cost of a call,
// few enough to notice a cancelled context.
const chunk = 10_000

// Write implements influx.Store.
func (s *Store) Write(ctx context.Context, policy influx.Policy, points []influx.Point) (influx.WriteResult, error) {
	if err := s.reopen(); err != nil {
		return influx.WriteResult{}, err
	}
	if err := s.enter("write", ctx); err != nil {
		return influx.WriteResult{}, err
	}
	defer s.calls.Done()

	var res influx.WriteResult
	for len(points) > 0 {
		if err := influx.ContextError("write", ctx); err != nil {
			return influx.WriteResult{}, err
		}
		n := min(len(points), chunk)
		if err := s.writeChunk(policy, points[:n], &res); err != nil {
			return influx.WriteResult{}, err
		}
		points = points[n:]
	}
	return res, nil
}

// writeChunk writes to the shards one after the other, without the points writer. The points writer
// returns when the first shard refuses points, while other shards are still being written, and
// loses their answers.
func (s *Store) writeChunk(policy influx.Policy, points []influx.Point, res *influx.WriteResult) error {
	rp, err := s.meta.RetentionPolicy(influx.Database, string(policy))
	if err != nil || rp == nil {
		if err == nil {
			err = errors.New("retention policy not found: " + string(policy))
		}
		return &influx.Error{Op: "write", Kind: influx.Schema, Err: err}
	}
	b := s.batches.Get().(*batch)
	defer s.batches.Put(b)
	b.convert(points, res)
	defer clear(b.own) // it keeps nothing of the points alive
	if len(b.points) == 0 {
		return nil
	}
	mapping, err := s.points.MapShards(&coordinator.WritePointsRequest{
		Database: influx.Database, RetentionPolicy: string(policy), Points: b.points,
	})
	if err != nil {
		return writeError(err) // the schema file is replaced as a whole: nothing is left broken
	}
	res.Dropped += len(mapping.Dropped)
	for id, shardPoints := range mapping.Points {
		err := s.data.WriteToShard(id, shardPoints)
		if errors.Is(err, tsdb.ErrShardNotFound) {
			if err = s.data.CreateShard(influx.Database, string(policy), id, true); err == nil {
				err = s.data.WriteToShard(id, shardPoints)
			}
		}
		if partial, ok := errors.AsType[tsdb.PartialWriteError](err); ok {
			res.Refuse(partial.Dropped, partial.Reason)
		} else if err != nil {
			s.failed(err)
			return writeError(err)
		}
	}
	return nil
}

// writeError gives an error of the engine its Kind. Only the text of the error shows that a policy
// was dropped between writeChunk's check and the engine's.
func writeError(err error) *influx.Error {
	e := influx.StatementError(0, err.Error())
	if e.Kind != influx.Schema {
		e.Kind = influx.Temporary
	}
	return &influx.Error{Op: "write", Kind: e.Kind, Err: err}
}

// batch is the memory that the engine's form of a chunk needs. The engine keeps nothing of it after
// a write.
type batch struct {
	own    []point
	points []models.Point // those of own that are written
	keys   []byte         // of the points
}

// convert makes the engine's form of the points, without the fields that InfluxDB would refuse. It
// counts in res each point with such a field or with no field.
func (b *batch) convert(points []influx.Point, res *influx.WriteResult) {
	b.own = slices.Grow(b.own[:0], len(points))[:len(points)]
	b.points, b.keys = b.points[:0], b.keys[:0]
	for i := range points {
		fields := influx.CheckFields(&points[i], res)
		if len(fields) == 0 {
			continue
		}
		p, series := &b.own[i], points[i].Series
		from := len(b.keys)
		b.keys = series.AppendKey(b.keys) // if it moves, the keys before stay where they were
		p.name, p.key, p.tags = series.Measurement(), b.keys[from:len(b.keys):len(b.keys)], tagsOf(series)
		p.fields, p.time = fields, points[i].Time
		b.points = append(b.points, p)
	}
}
