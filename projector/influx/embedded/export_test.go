package embedded

// SetMaxValues makes the engine's limit on the values of a tag small.
func (o *Options) SetMaxValues(n int) { o.maxValues = n }

// SetVerifyLimit makes the number of bytes that Open verifies at once small.
func (o *Options) SetVerifyLimit(n int64) { o.verifyLimit = n }

// Verified waits until all files were read that Open left for later.
func (s *Store) Verified() { s.verifying.Wait() }

// Merge has the engine merge the files of each shard soon.
func (s *Store) Merge() error {
	for _, id := range s.data.ShardIDs() {
		if err := s.data.Shard(id).ScheduleFullCompaction(); err != nil {
			return err
		}
	}
	return nil
}
