package projector

// SetSizes makes chunks and the threshold of a jump smaller (records), before Start.
func (b *Backlog) SetSizes(chunk, behind uint64) { b.chunk, b.behind = chunk, behind }
