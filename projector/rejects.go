package projector

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal/codec"
)

var rejectsBucket = []byte("rejects")

// maxRejects is how many rejects are kept per projection; the oldest go first. The counters go on.
const maxRejects = 1000

// Reject is something that a sink will never take.
type Reject struct {
	// Projection is the name of the projection, Seq the journal's sequence number of the record.
	Projection string `json:"projection"`
	Seq        uint64 `json:"seq"`
	// Edge, Relay and Stat say what was refused; Relay and Stat are empty when it was a whole record,
	// or many readings. Edge is also empty for this Pulse's own relays.
	Edge  string `json:"edge,omitempty"`
	Relay string `json:"relay,omitempty"`
	Stat  string `json:"stat,omitempty"`
	// Count is how many readings this stands for: 0 for one, or for a record that could not be
	// read. They are in the records Seq to To if To is not 0.
	Count int    `json:"count,omitempty"`
	To    uint64 `json:"to,omitempty"`
	// Window is the start of the window whose row was refused; zero if it was no row.
	Window time.Time `json:"window,omitzero"`
	// Reason is what the sink said.
	Reason string `json:"reason"`
	// Time is when it was refused.
	Time time.Time `json:"time"`
}

// storedReject is a Reject as bbolt holds it: JSON by the tags of Reject.
type storedReject Reject

// MarshalJSON shows the reject as the API does.
func (r Reject) MarshalJSON() ([]byte, error) {
	return apijson.Marshal(struct {
		Projection string    `json:"projection"`
		Sequence   uint64    `json:"sequence"`
		Edge       string    `json:"edge,omitempty"`
		Relay      string    `json:"relay"`
		Stat       string    `json:"stat"`
		Count      int       `json:"count"`
		Reason     string    `json:"reason"`
		Time       time.Time `json:"time"`
	}{r.Projection, r.Seq, r.Edge, r.Relay, r.Stat, max(1, r.Count), r.Reason, apijson.Time(r.Time)})
}

// Rejects lists what sinks refused, in bbolt: bucket "rejects", in it a bucket per projection, in
// it JSON by order of arrival. It keeps the newest 1,000 per projection. Methods may be called from
// any goroutine.
type Rejects struct{ db *bbolt.DB }

// NewRejects returns the rejects kept in db. The bucket is made when it is first needed.
func NewRejects(db *bbolt.DB) *Rejects { return &Rejects{db: db} }

// Add lists rejects, durably. One that is listed already (same projection, sequence, edge,
// relay and stat) is not listed again, so that a batch that is offered again changes nothing.
func (r *Rejects) Add(rejects ...Reject) error {
	if len(rejects) == 0 {
		return nil
	}
	return r.change(func(top *bbolt.Bucket) error {
		lists := make(map[string]*rejectList)
		for _, rej := range rejects {
			l := lists[rej.Projection]
			if l == nil {
				var err error
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
}

// change changes the lists in one transaction.
func (r *Rejects) change(f func(top *bbolt.Bucket) error) error {
	err := r.db.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(rejectsBucket)
		if err != nil {
			return err
		}
		return f(top)
	})
	if err != nil {
		return fmt.Errorf("projector: listing rejects in %s: %w", r.db.Path(), err)
	}
	return nil
}

// Replace takes from a projection's list what is gone, and lists what is still refused, durably and
// at once. A reject that is listed already keeps its place and its time if it is among still,
// whatever gone says of it.
func (r *Rejects) Replace(projection string, gone func(Reject) bool, still ...Reject) error {
	keep := make(map[rejectKey]bool, len(still))
	for _, rej := range still {
		if rej.Projection != projection {
			return fmt.Errorf("projector: a reject of %q for the list of %q", rej.Projection, projection)
		}
		keep[rej.key()] = true
	}
	return r.change(func(top *bbolt.Bucket) error {
		l, err := openList(top, projection)
		if err != nil {
			return err
		}
		var keys [][]byte
		err = l.bucket.ForEach(func(k, v []byte) error {
			var old Reject
			if err := json.Unmarshal(seal.Open(v), (*storedReject)(&old)); err != nil {
				return err
			}
			if !keep[old.key()] && gone(old) {
				keys = append(keys, bytes.Clone(k))
				delete(l.listed, old.key())
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := l.bucket.Delete(k); err != nil {
				return err
			}
			l.n--
		}
		for _, rej := range still {
			if err := l.add(rej); err != nil {
				return err
			}
		}
		return nil
	})
}

// rejectList is one projection's list within a transaction.
type rejectList struct {
	bucket *bbolt.Bucket
	listed map[rejectKey]bool
	n      int
}

// rejectKey tells rejects apart.
type rejectKey struct {
	seq   uint64
	relay codec.RelayKey
	stat  string
}

func (r *Reject) key() rejectKey {
	return rejectKey{r.Seq, codec.RelayKey{Edge: r.Edge, Relay: r.Relay}, r.Stat}
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
		if err := json.Unmarshal(seal.Open(v), (*storedReject)(&old)); err != nil {
			return err
		}
		l.listed[old.key()] = true
		return nil
	})
}

func (l *rejectList) add(rej Reject) error {
	key := rej.key()
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
	v, err := json.Marshal(storedReject(rej))
	if err != nil {
		return err
	}
	l.listed[key] = true
	l.n++
	at := binary.BigEndian.AppendUint64(nil, id)
	return l.bucket.Put(at, seal.Seal(at, v))
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
				if err := json.Unmarshal(seal.Open(v), (*storedReject)(&rej)); err != nil {
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
