package migrations

import (
	"bytes"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// bolt0002Seals seals all values. After this step a damaged value is noticed.
func bolt0002Seals(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return sealAll(name, b) })
}

func sealAll(name []byte, b *bbolt.Bucket) error {
	type pair struct{ key, value []byte }
	var pairs []pair
	if err := b.ForEach(func(k, v []byte) error {
		switch {
		case v == nil:
			return sealAll(k, b.Bucket(k))
		case !seal.Sealed(v) && !isSchema(name, k):
			pairs = append(pairs, pair{bytes.Clone(k), bytes.Clone(v)})
		}
		return nil
	}); err != nil {
		return err
	}
	for _, p := range pairs { // not while ForEach visits them
		if err := b.Put(p.key, seal.Seal(p.key, p.value)); err != nil {
			return err
		}
	}
	return nil
}

// isSchema reports whether a key is the schema's number. The number has no seal, so that an earlier
// release can read it; the bucket "meta" also holds a sealed copy.
func isSchema(bucket, key []byte) bool {
	return string(bucket) == metaBucket && string(key) == keySchema
}
