package migrations

import "go.etcd.io/bbolt"

// bolt0001Buckets makes the buckets of the first release.
func bolt0001Buckets(tx *bbolt.Tx) error {
	for _, name := range []string{"meta", "relays", "overrides", "positions", "alerts", "rejects", "windows"} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return nil
}
