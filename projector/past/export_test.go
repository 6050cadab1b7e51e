package past

// SetChunk sets how many records the backlog takes at a time. It must be called before Start.
func (q *Queue) SetChunk(records uint64) { q.size = records }
