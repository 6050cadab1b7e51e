package migrations

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/boltfile"
	"github.com/nanopack/pulse/internal/seal"
)

// damagedBucket keeps the damages: sequence → JSON of a Damage with the damaged value.
const damagedBucket = "damaged"

// maxDamages is how many damages are kept; the oldest are deleted first.
const maxDamages = 100

// Damage is a value of the state file that differed from what was written and was removed, or a
// bucket's name that was corrected. The bucket "damaged" keeps it.
type Damage struct {
	Found time.Time `json:"found"`
	// What identifies the value: its buckets and its key, separated by slashes.
	What string `json:"what"`
	// Effect is the consequence, or what was done about the damage.
	Effect string `json:"effect"`
	// Value is the damaged value.
	Value []byte `json:"value"`

	rewinds string // the projection that begins again because of it
}

// effect returns what happens when a value is missing, by the bucket it was in. If nothing else
// would restore the value, effect also returns the projection that has to begin again at the
// journal's first record.
func effect(in []string) (text string, rewinds string) {
	switch in[0] {
	case "meta":
		switch in[len(in)-1] {
		case keyIdentity:
			return "this installation has another identity from now on", ""
		case keyTakeOver:
			return "the take-over of a 0.2 database is done again", ""
		}
		return "it is made again from the journal", ""
	case "relays":
		return "the relay is not listed until it connects again", ""
	case "relays_alive":
		return "when relays were heard of before a crash is not known", ""
	case "overrides":
		return "the override holds no more", ""
	case "positions":
		return "what the journal holds is projected again", ""
	case "backlog":
		return "what the journal holds is projected again", in[1]
	case "windows", "edge_windows":
		return "the windows that the journal holds are counted again", "influx_aggregates"
	case "edges":
		return "what was known of the edge beside its events is gone, its gaps among it", ""
	case "replays":
		return "the replay does not go on; ask for it again", ""
	case "rejects":
		return "GET /rejects does not list it any more", ""
	case "alerts":
		switch in[1] {
		case "definitions":
			return "the alert is gone; make it again", ""
		case "queue":
			return "a post of the alert is not sent", ""
		}
		return "the alert begins anew", ""
	}
	return "it is gone", ""
}

// mend removes the values that do not match their seals.
func (s *State) mend(log *slog.Logger) error {
	return guard(func() error { return s.takeOutDamages(log) })
}

func (s *State) takeOutDamages(log *slog.Logger) error {
	var found []Damage
	if err := s.DB.Update(func(tx *bbolt.Tx) error {
		if err := checkSchema(tx); err != nil {
			return err
		}
		renamed, err := rename(tx, log)
		if err != nil {
			return err
		}
		found = append(found, renamed...)
		for _, name := range sealedBuckets {
			b := tx.Bucket([]byte(name))
			if b == nil {
				continue
			}
			if err := raiseSequences(b, name); err != nil {
				return err
			}
			whole := newTree(b)
			if damages := whole.fill([]string{name}, b); len(damages) > 0 {
				found = append(found, damages...)
				if err := whole.replace(tx, name); err != nil {
					return err
				}
			}
		}
		for _, d := range found {
			if err := rewind(tx, d.rewinds); err != nil {
				return err
			}
			log.Error("the state file was not as it was written", "path", s.DB.Path(), "what", d.What, "effect", d.Effect)
		}
		s.Damages, err = keepDamages(tx, found)
		return err
	}); err != nil || len(found) == 0 {
		return err
	}
	return s.DB.View(boltfile.ReadAll)
}

// rewind makes a projection begin again at the journal's first record.
func rewind(tx *bbolt.Tx, projection string) error {
	b := tx.Bucket([]byte("positions"))
	if b == nil || projection == "" {
		return nil
	}
	return b.Delete([]byte(projection))
}

// sealedBuckets are the buckets in which every value has a seal.
var sealedBuckets = []string{metaBucket, "relays", "overrides", "positions", "backlog", "windows", "edge_windows", "rejects", "replays", "alerts", "relays_alive", "edges"}

// tree holds the undamaged part of a bucket.
type tree struct {
	sequence uint64
	values   [][2][]byte
	buckets  map[string]*tree
}

func newTree(b *bbolt.Bucket) *tree {
	return &tree{sequence: b.Sequence(), buckets: make(map[string]*tree)}
}

// fill adds the undamaged values and buckets of b to the tree, and returns the damaged ones.
func (t *tree) fill(at []string, b *bbolt.Bucket) (found []Damage) {
	c := b.Cursor()
	var last []byte
	for k, v := c.First(); k != nil; k, v = c.Next() {
		in := append(slices.Clone(at), printable(k))
		child := b.Bucket(k)
		switch {
		case v == nil && child != nil && len(at) == 1 && bucketIn(at[0], string(k)) != "":
			name := bucketIn(at[0], string(k))
			if name != string(k) {
				found = append(found, nameDamage(path.Join(in...), name))
				in[1] = name
			}
			sub := newTree(child)
			t.buckets[name] = sub
			found = append(found, sub.fill(in, child)...)
		case v != nil && bytes.Compare(last, k) < 0 && (seal.Whole(k, v) || isSchema([]byte(at[0]), k)):
			t.values = append(t.values, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
		default:
			d := Damage{Found: time.Now().UTC(), What: path.Join(in...), Value: bytes.Clone(v)}
			d.Effect, d.rewinds = effect(in)
			found = append(found, d)
		}
		last = k
	}
	return found
}

// replace replaces a bucket by the tree. A damaged key cannot be deleted by itself, because bbolt
// does not find it.
func (t *tree) replace(tx *bbolt.Tx, name string) error {
	if err := tx.DeleteBucket([]byte(name)); err != nil {
		return err
	}
	b, err := tx.CreateBucket([]byte(name))
	if err != nil {
		return err
	}
	return t.put(b)
}

func (t *tree) put(b *bbolt.Bucket) error {
	if err := b.SetSequence(t.sequence); err != nil {
		return err
	}
	for _, kv := range t.values {
		if err := b.Put(kv[0], kv[1]); err != nil {
			return err
		}
	}
	for name, sub := range t.buckets {
		child, err := b.CreateBucket([]byte(name))
		if err != nil {
			return err
		}
		if err := sub.put(child); err != nil {
			return err
		}
	}
	return nil
}

// printable returns a key as text, or in hexadecimal digits if it is not printable ASCII.
func printable(key []byte) string {
	for _, c := range key {
		if c < ' ' || c > '~' {
			return fmt.Sprintf("%x", key)
		}
	}
	return string(key)
}

// keepDamages adds found to the damages in the file and returns all of them.
func keepDamages(tx *bbolt.Tx, found []Damage) (all []Damage, err error) {
	b, err := tx.CreateBucketIfNotExists([]byte(damagedBucket))
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		n, err := b.NextSequence()
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		key := fmt.Appendf(nil, "%020d", n)
		if err := b.Put(key, seal.Seal(key, v)); err != nil {
			return nil, err
		}
	}
	var keys [][]byte
	err = b.ForEach(func(k, v []byte) error {
		var d Damage
		if err := json.Unmarshal(seal.Open(v), &d); err != nil {
			return err
		}
		all, keys = append(all, d), append(keys, bytes.Clone(k))
		return nil
	})
	for len(all) > maxDamages && err == nil {
		err = b.Delete(keys[0])
		all, keys = all[1:], keys[1:]
	}
	return all, err
}

// checkSchema compares the schema's number with its sealed copy. The number is the only value
// without a seal, and it decides how the other values are read.
func checkSchema(tx *bbolt.Tx) error {
	meta := tx.Bucket([]byte(metaBucket))
	number, sealed := meta.Get([]byte(keySchema)), meta.Get([]byte(keySchemaSeal))
	if sealed == nil || seal.Broken([]byte(keySchemaSeal), sealed) {
		return meta.Put([]byte(keySchemaSeal), seal.Seal([]byte(keySchemaSeal), number)) // a wrong number would not have come this far
	}
	if !bytes.Equal(number, seal.Open(sealed)) {
		return fmt.Errorf("%w: its schema is %q, and was written as %q", ErrDamaged, number, seal.Open(sealed))
	}
	return nil
}
