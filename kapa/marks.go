package kapa

// marks finds the record from which the journal must be read again so that every window has its
// readings after a restart. It keeps one mark for each ten seconds of the readings' times.
type marks struct {
	base   uint64 // no record up to it is needed
	newest int64  // the latest time of an event so far, ns since 1970
	list   []mark // ascending
}

// mark says that no record before seq is of time or later.
type mark struct {
	time int64
	seq  uint64
}

const markEvery = int64(10e9) // ns

// see notes the time of an event. Nothing is marked unless keep is set.
func (m *marks) see(seq uint64, at int64, keep bool) {
	if at <= m.newest {
		return
	}
	if keep && at/markEvery > m.newest/markEvery {
		m.list = append(m.list, mark{at / markEvery * markEvery, seq})
	}
	m.newest = at
}

// before returns the last record that is not needed when events of the time oldest and later are.
func (m *marks) before(oldest int64) uint64 {
	n := 0
	for n < len(m.list) && m.list[n].time <= oldest {
		m.base = m.list[n].seq - 1
		n++
	}
	m.list = m.list[n:]
	return m.base
}
