package spool

// bound drops the oldest segments while the spool is too large. Records on their way are not
// dropped: they may be in the journal already, and would be counted as dropped too.
func (l *Log) bound() {
	for {
		s := l.surplus()
		if s == nil {
			return
		}
		readings, seen := uint64(0), 0
		_, err := s.scan(func(n line) {
			if r := n.record(); n.word == wordRecord && !l.gone.has(r.Seq) {
				readings += uint64(r.Readings)
				seen++
			}
		})
		if err != nil {
			l.failed(err)
		}
		l.state.Damaged += uint64(max(s.left-seen, 0))
		l.state.Dropped += readings
		l.forget(s.numbers()) // with the new count, in one line
	}
}

// surplus returns the segment to drop next, nil if the spool is within its bounds.
func (l *Log) surplus() *segment {
	all, memory := int64(0), int64(0)
	for _, s := range l.segments {
		all += s.bytes()
		if s.path == "" {
			memory += s.bytes()
		}
	}
	for _, s := range l.segments[:len(l.segments)-1] {
		tooMuch := all > l.maximum || s.path == "" && memory > l.memory
		if tooMuch && s.left > 0 && l.out.count(s.numbers()) == 0 {
			return s
		}
	}
	return nil
}
