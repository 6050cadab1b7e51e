package migrations

import (
	"encoding/binary"
	"log/slog"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// misnamed returns the buckets with a damaged name: a map from the present name to the original
// name. It calls unknown for the buckets whose original name cannot be found or is taken.
func misnamed(tx *bbolt.Tx, unknown func(name string)) (map[string]string, error) {
	found := make(map[string]string)
	err := tx.ForEach(func(k []byte, _ *bbolt.Bucket) error {
		switch name := bucketIn("", string(k)); {
		case name == string(k):
		case name == "" || tx.Bucket([]byte(name)) != nil:
			unknown(printable(k))
		default:
			found[string(k)] = name
		}
		return nil
	})
	return found, err
}

// rename gives the buckets with a damaged name their original name again.
func rename(tx *bbolt.Tx, log *slog.Logger) (found []Damage, err error) {
	names, err := misnamed(tx, func(name string) {
		log.Warn("the state file has a bucket that this release does not know: it is left as it is", "path", tx.DB().Path(), "bucket", name)
	})
	if err != nil {
		return nil, err
	}
	for from, to := range names {
		whole := newTree(tx.Bucket([]byte(from)))
		found = append(found, nameDamage(from, to))
		found = append(found, whole.fill([]string{to}, tx.Bucket([]byte(from)))...)
		if err := tx.DeleteBucket([]byte(from)); err != nil {
			return nil, err
		}
		b, err := tx.CreateBucket([]byte(to))
		if err != nil {
			return nil, err
		}
		if err := whole.put(b); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func nameDamage(what, name string) Damage {
	return Damage{Found: time.Now().UTC(), What: printable([]byte(what)), Effect: "its name was put right: " + name}
}

// raiseSequences makes a bucket's sequence at least as high as the highest number in its keys. A
// bucket's sequence has no seal, and with a lower sequence new values would replace old ones.
func raiseSequences(b *bbolt.Bucket, name string) error {
	switch name {
	case "rejects":
		return b.ForEachBucket(func(k []byte) error { return raiseSequence(b.Bucket(k)) })
	case "replays":
		return raiseSequence(b)
	case "alerts":
		if queue := b.Bucket([]byte("queue")); queue != nil {
			return raiseSequence(queue)
		}
	}
	return nil
}

// raiseSequence raises the sequence of a bucket whose keys end with a number of eight bytes.
func raiseSequence(b *bbolt.Bucket) error {
	highest := b.Sequence()
	if err := b.ForEach(func(k, v []byte) error {
		if len(k) >= 8 && seal.Whole(k, v) {
			highest = max(highest, binary.BigEndian.Uint64(k[len(k)-8:]))
		}
		return nil
	}); err != nil || highest == b.Sequence() {
		return err
	}
	return b.SetSequence(highest)
}

// bucketIn returns the name of a bucket within another bucket, or of the file if bucket is "". The
// result is name itself, or the original name if one byte of name is damaged: names have no seals,
// only values have. The result is "" if no bucket has such a name.
func bucketIn(bucket, name string) string {
	var names []string
	switch bucket {
	case "":
		names = append([]string{damagedBucket}, sealedBuckets...)
	case "backlog", "rejects":
		names = []string{"influx_raw", "influx_aggregates", "alerts", "live", "mist"}
	case "alerts":
		names = []string{"definitions", "states", "queue", "outcomes"}
	}
	for _, known := range names {
		differs := 0
		for i := 0; i < len(name) && i < len(known); i++ {
			if name[i] != known[i] {
				differs++
			}
		}
		if len(name) == len(known) && differs <= 1 {
			return known
		}
	}
	return ""
}
