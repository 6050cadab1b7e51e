package past

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

var replaysBucket = []byte("replays")

// load reads the jobs, in the order of their creation. One that cannot be read is logged and left
// where it is: a replay can be asked for again, and is no reason not to start.
func (j *Replays) load() error {
	err := j.o.DB.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(replaysBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			r := new(record)
			err := json.Unmarshal(seal.Open(v), r)
			if err == nil && (len(k) != 8 || len(r.Runs) != len(r.Parts)) {
				err = fmt.Errorf("it has %d parts and %d cursors", len(r.Parts), len(r.Runs))
			}
			if err != nil {
				j.log.Error("a stored replay cannot be read and is left out", "key", fmt.Sprintf("%x", k), "error", err)
				return nil
			}
			r.number(binary.BigEndian.Uint64(k))
			j.records = append(j.records, r)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("past: reading the replays in %s: %w", j.o.DB.Path(), err)
	}
	return nil
}

// save stores a job, numbers it if it is new, and deletes others, durably.
func (j *Replays) save(r *record, forget []*record) error {
	err := j.update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(replaysBucket)
		if err != nil {
			return err
		}
		if r.seq == 0 {
			seq, err := b.NextSequence()
			if err != nil {
				return err
			}
			r.number(seq)
		}
		v, err := json.Marshal(r)
		if err != nil {
			return err
		}
		for _, old := range forget {
			if err := b.Delete(binary.BigEndian.AppendUint64(nil, old.seq)); err != nil {
				return err
			}
		}
		key := binary.BigEndian.AppendUint64(nil, r.seq)
		return b.Put(key, seal.Seal(key, v))
	})
	if err != nil {
		return fmt.Errorf("past: saving a replay in %s: %w", j.o.DB.Path(), err)
	}
	return nil
}
