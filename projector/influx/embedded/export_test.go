package embedded

// SetMaxValues sets the engine's limit on the values of a tag.
func (o *Options) SetMaxValues(n int) { o.maxValues = n }

// SetVerifyLimit sets the number of bytes that Open verifies at once.
func (o *Options) SetVerifyLimit(n int64) { o.verifyLimit = n }

// Verified waits until all files that Open left for later were read.
func (s *Store) Verified() { s.verifying.Wait() }

// Merge makes the engine merge the files of each shard soon.
func (s *Store) Merge() error {
	for _, id := range s.data.ShardIDs() {
		if err := s.data.Shard(id).ScheduleFullCompaction(); err != nil {
			return err
		}
	}
	return nil
}
