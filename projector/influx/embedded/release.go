package embedded

import (
	"sync"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"
)

// releasing is the engine's store with a DeleteShard that first removes the series from the index
// that no other shard has. The engine's own DeleteShard of 1.8.10 never empties the buffer in which
// it makes their keys. So it removes only the first of them, the others take memory and count
// against the limit until a restart, and for 100,000 of them it copies for minutes.
type releasing struct {
	*tsdb.Store

	// writes is held for reading while points are written, which may bring a series into a shard,
	// and for writing from the look at the other shards until a series is dropped. Without it, a
	// host that comes back in between would be missing from the index until its next write.
	writes sync.RWMutex
}

// WriteToShard writes points to a shard. It may wait for the release of some series.
func (s *releasing) WriteToShard(id uint64, points []models.Point) error {
	s.writes.RLock()
	defer s.writes.RUnlock()
	return s.Store.WriteToShard(id, points)
}

// DeleteShard deletes a shard and the series that were only in it.
func (s *releasing) DeleteShard(id uint64) error {
	if shard := s.Shard(id); shard != nil {
		if err := s.release(shard); err != nil {
			return err
		}
	}
	return s.Store.DeleteShard(id)
}

// releaseAtOnce is how many series are released while writes wait: some milliseconds.
const releaseAtOnce = 1_000

func (s *releasing) release(shard *tsdb.Shard) error {
	index, err := shard.Index()
	if err != nil {
		return nil // the shard is being deleted
	}
	sfile, err := shard.SeriesFile()
	if err != nil {
		return err
	}
	var ids []uint64
	index.SeriesIDSet().Clone().ForEach(func(id uint64) { ids = append(ids, id) })
	var failed error
	for len(ids) > 0 {
		n := min(len(ids), releaseAtOnce)
		if err := s.releaseSome(shard, index, sfile, ids[:n]); err != nil {
			failed = err
		}
		ids = ids[n:]
	}
	return failed
}

// releaseSome drops those series that no other shard has now.
func (s *releasing) releaseSome(shard *tsdb.Shard, index tsdb.Index, sfile *tsdb.SeriesFile, ids []uint64) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	dead := tsdb.NewSeriesIDSet(ids...)
	for _, id := range s.ShardIDs() {
		other := s.Shard(id)
		if other == nil || id == shard.ID() || other.Database() != shard.Database() {
			continue
		}
		i, err := other.Index()
		if err != nil {
			return err // its series are not known
		}
		dead.Diff(i.SeriesIDSet())
	}
	var failed error
	dead.ForEach(func(id uint64) {
		if name, tags := sfile.Series(id); name != nil {
			if err := index.DropSeriesGlobal(models.MakeKey(name, tags)); err != nil {
				failed = err
			}
		}
		if err := sfile.DeleteSeriesID(id); err != nil {
			failed = err
		}
		index.SeriesIDSet().Remove(id)
	})
	return failed
}
