package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/projector/influx"
)

// Flush implements influx.Store: it writes what the policy's shards hold in memory to files.
func (s *Store) Flush(ctx context.Context, policy influx.Policy) error {
	if err := s.enter("flush", ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	if err := s.flush(ctx, string(policy)); err != nil {
		return &influx.Error{Op: "flush", Kind: influx.Temporary, Err: err}
	}
	return nil
}

// flush flushes the shards of a policy, or all shards if policy is empty, and notes their files in
// the manifest.
func (s *Store) flush(ctx context.Context, policy string) error {
	for _, id := range s.data.ShardIDs() {
		shard := s.data.Shard(id)
		if shard == nil || policy != "" && shard.RetentionPolicy() != policy {
			continue
		}
		err := flushShard(ctx, shard)
		if err != nil && s.data.Shard(id) == nil {
			continue // it expired meanwhile
		}
		if err != nil {
			return fmt.Errorf("writing shard %d: %w", id, err)
		}
	}
	return s.ledger.confirm()
}

func flushShard(ctx context.Context, shard *tsdb.Shard) error {
	e, err := shard.Engine()
	if err != nil {
		return nil // the shard is being deleted, because its points have expired
	}
	engine, ok := e.(*tsm1.Engine)
	if !ok || engine.Cache.Size() == 0 {
		return nil
	}
	shard.SetCompactionsEnabled(true) // an idle shard writes no snapshots
	// After a failed snapshot the engine's next snapshot writes only the points of the failed one.
	// A second snapshot writes the points that came since.
	times := 1
	if attempts, _ := engine.Cache.Statistics(nil)[0].Values["snapshotCount"].(int64); attempts > 0 {
		times = 2
	}
	for range times {
		if err := writeSnapshot(ctx, engine); err != nil {
			return err
		}
	}
	return nil
}

// writeSnapshot writes what is in memory to a file. It waits while the engine itself is writing a
// snapshot, which takes a moment.
func writeSnapshot(ctx context.Context, engine *tsm1.Engine) error {
	for {
		err := engine.WriteSnapshot()
		if !errors.Is(err, tsm1.ErrSnapshotInProgress) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
