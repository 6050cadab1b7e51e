package embedded

import (
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/tsdb"
)

// releasing is the engine's store with a DeleteShard that first removes the series from the index
// that no other shard has. The engine's own DeleteShard of 1.8.10 never empties the buffer in which
// it makes their keys. So it removes only the first of them, the others take memory and count
// against the limit until a restart, and for 100,000 of them it copies for minutes.
type releasing struct{ *tsdb.Store }

// DeleteShard deletes a shard and the series that were only in it.
func (s releasing) DeleteShard(id uint64) error {
	if shard := s.Shard(id); shard != nil {
		if err := s.release(shard); err != nil {
			return err
		}
	}
	return s.Store.DeleteShard(id)
}

func (s releasing) release(shard *tsdb.Shard) error {
	index, err := shard.Index()
	if err != nil {
		return nil // the shard is being deleted
	}
	sfile, err := shard.SeriesFile()
	if err != nil {
		return err
	}
	own := index.SeriesIDSet()
	dead := own.Clone()
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
		own.Remove(id)
	})
	return failed
}
