package journal

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// Marker says, outside of the journal's directory, that a journal exists and how far it got, so
// that it is never silently replaced by an empty one.
type Marker struct {
	// Stream is the identity given to the journal when it was made.
	Stream string `json:"stream"`
	// Seq is a sequence number that the journal had reached, EventTime the time of that event in
	// nanoseconds since 1970 UTC (0 if it is not known).
	Seq       uint64 `json:"seq"`
	EventTime int64  `json:"event_time"`
	// Lost counts the events that the journal lost since it was made, Holes are the ranges of them
	// that are missing inside it: the newest 256.
	Lost  uint64 `json:"lost,omitempty"`
	Holes Spans  `json:"holes,omitempty"`
}

// equal reports whether m and o say the same.
func (m Marker) equal(o Marker) bool {
	return m.Stream == o.Stream && m.Seq == o.Seq && m.EventTime == o.EventTime &&
		m.Lost == o.Lost && slices.Equal(m.Holes, o.Holes)
}

// MarkerStore keeps a [Marker] durably. The journal calls it from one goroutine at a time, a few
// times a minute; SaveMarker may block for a disk write and must not return before the marker is
// safe.
type MarkerStore interface {
	// LoadMarker returns the saved marker, and false if there is none.
	LoadMarker() (Marker, bool, error)
	SaveMarker(Marker) error
}

const (
	markerBucket = "meta"
	markerKey    = "journal"
)

// BoltMarker keeps the marker in an open bbolt database: bucket "meta", key "journal", as JSON. The
// bucket is made if it is not there. The database stays the caller's.
func BoltMarker(db *bbolt.DB) MarkerStore { return boltMarker{db} }

type boltMarker struct{ db *bbolt.DB }

func (b boltMarker) LoadMarker() (m Marker, ok bool, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(markerBucket))
		if bucket == nil {
			return nil
		}
		data := bucket.Get([]byte(markerKey))
		if data == nil {
			return nil
		}
		ok = true
		return json.Unmarshal(seal.Open(data), &m)
	})
	if err != nil {
		return Marker{}, false, fmt.Errorf("journal: reading the marker in %s: %w", b.db.Path(), err)
	}
	return m, ok, nil
}

func (b boltMarker) SaveMarker(m Marker) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	err = b.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte(markerBucket))
		if err != nil {
			return err
		}
		return bucket.Put([]byte(markerKey), seal.Seal([]byte(markerKey), data))
	})
	if err != nil {
		return fmt.Errorf("journal: saving the marker in %s: %w", b.db.Path(), err)
	}
	return nil
}
