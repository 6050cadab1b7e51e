package projector

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

var rejectsBucket = []byte("rejects")

// maxRejects is how many rejects are kept per projection; the oldest go first. The counters go on.
const maxRejects = 1000

// Reject is something that a sink will never take.
type Reject struct {
	// Projection is the name of the projection, Seq the journal's sequence number of the record.
	Projection string `json:"projection"`
	Seq        uint64 `json:"seq"`
	// Relay and Stat say what was refused; they are empty when it was a whole record, or many readings.
	Relay string `json:"relay,omitempty"`
	Stat  string `json:"stat,omitempty"`
	// Count is how many readings this stands for: 0 for one, or for a record that could not be read.
	Count int `json:"count,omitempty"`
	// Reason is what the sink said.
	Reason string `json:"reason"`
	// Time is when it was refused.
	Time time.Time `json:"time"`
}

// Rejects lists what sinks refused, in bbolt: bucket "rejects", in it a bucket per projection, in
// it JSON by order of arrival. It keeps the newest 1,000 per projection. Methods may be called from any goroutine.
type Rejects struct{ db *bbolt.DB }

// NewRejects returns the rejects kept in db. The bucket is made when it is first needed.
func NewRejects(db *bbolt.DB) *Rejects { return &Rejects{db: db} }

// Add lists rejects, durably. One that is listed already (same projection, sequence, relay and stat) is not
// listed again, so that a batch that is offered again changes nothing.
func (r *Rejects) Add(rejects ...Reject) error {
	if len(rejects) == 0 {
		return nil
	}
	err := r.db.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(rejectsBucket)
		if err != nil {
			return err
		}
		lists := make(map[string]*rejectList)
		for _, rej := range rejects {
			l := lists[rej.Projection]
			if l == nil {
				if l, err = openList(top, rej.Projection); err != nil {
					return err
				}
				lists[rej.Projection] = l
			}
			if err := l.add(rej); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("projector: listing a reject in %s: %w", r.db.Path(), err)
	}
	return nil
}

// rejectList is one projection's list within a transaction.
type rejectList struct {
	bucket *bbolt.Bucket
	listed map[rejectKey]bool
	n      int
}

// rejectKey tells rejects apart.
type rejectKey struct {
	seq         uint64
	relay, stat string
}

func openList(top *bbolt.Bucket, projection string) (*rejectList, error) {
	if projection == "" {
		return nil, errors.New("a reject without a projection")
	}
	b, err := top.CreateBucketIfNotExists([]byte(projection))
	if err != nil {
		return nil, err
	}
	l := &rejectList{bucket: b, listed: make(map[rejectKey]bool)}
	return l, b.ForEach(func(_, v []byte) error {
		l.n++
		var old Reject
		if err := json.Unmarshal(v, &old); err != nil {
			return err
		}
		l.listed[rejectKey{old.Seq, old.Relay, old.Stat}] = true
		return nil
	})
}

func (l *rejectList) add(rej Reject) error {
	key := rejectKey{rej.Seq, rej.Relay, rej.Stat}
	if l.listed[key] {
		return nil
	}
	for ; l.n >= maxRejects; l.n-- {
		oldest, _ := l.bucket.Cursor().First()
		if err := l.bucket.Delete(oldest); err != nil {
			return err
		}
	}
	id, err := l.bucket.NextSequence()
	if err != nil {
		return err
	}
	v, err := json.Marshal(rej)
	if err != nil {
		return err
	}
	l.listed[key] = true
	l.n++
	return l.bucket.Put(binary.BigEndian.AppendUint64(nil, id), v)
}

// List returns the rejects of all projections, the newest first. It is never nil.
func (r *Rejects) List() ([]Reject, error) {
	list := []Reject{}
	err := r.db.View(func(tx *bbolt.Tx) error {
		top := tx.Bucket(rejectsBucket)
		if top == nil {
			return nil
		}
		return top.ForEachBucket(func(name []byte) error {
			return top.Bucket(name).ForEach(func(_, v []byte) error {
				var rej Reject
				if err := json.Unmarshal(v, &rej); err != nil {
					return fmt.Errorf("a reject of %s: %w", name, err)
				}
				list = append(list, rej)
				return nil
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("projector: listing the rejects in %s: %w", r.db.Path(), err)
	}
	slices.SortStableFunc(list, func(a, b Reject) int { return b.Time.Compare(a.Time) })
	return list, nil
}
