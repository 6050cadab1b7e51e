package spool

import (
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

const (
	// DefaultBytes bounds a spool in a directory, DefaultMemory one in memory.
	DefaultBytes  = 64 << 20
	DefaultMemory = 1 << 20
	// MinBytes is the smallest bound.
	MinBytes = 256 << 10
	// retryEvery is how often a disk that failed is tried again.
	retryEvery = 10 * time.Second
	// maxIntervals bounds the collectors whose interval is remembered.
	maxIntervals = 4096
)

// ErrInUse is a directory that another process uses.
var ErrInUse = errors.New("another process uses this spool")

// Record is what was collected at one moment.
type Record struct {
	Seq uint64
	// Time is when it was collected, in milliseconds since 1970.
	Time int64
	// Readings is how many readings Items holds.
	Readings int
	// Items is the text of a got line after its verb: at most MaxItems bytes without a newline.
	Items []byte
}

// State is what a spool holds and what became of the rest.
type State struct {
	// Waiting is how many records are neither gone nor on their way.
	Waiting int
	// Bytes is what the spool takes of the disk and of the memory.
	Bytes int64
	// Dropped is how many readings were ever dropped because the spool was full.
	Dropped uint64
	// Damaged is how many lines could not be read since the start.
	Damaged uint64
	// Failures is how many times the disk failed since the start, LastError the last reason.
	Failures  uint64
	LastError error
}

// Log is a spool. Its zero value is not usable; see Open.
type Log struct {
	dir             string // empty: in memory
	id              relaywire.SpoolID
	maximum, memory int64 // bounds in bytes: of all, and of the segments in memory
	segmentSize     int64
	lock            *os.File

	mu       sync.Mutex // guards the fields below
	closed   bool
	ordinal  uint64 // of the newest segment's file
	next     uint64 // number of the next record
	segments []*segment
	gone     ranges // numbers within segments that are no longer wanted, or damaged
	out      ranges // numbers that are on their way to the server
	every    map[string]time.Duration
	state    State // without Waiting and Bytes
	retry    time.Time
}

// ID returns the spool's id, which another directory and another spool in memory do not have.
func (l *Log) ID() relaywire.SpoolID { return l.id }

// State returns the counters.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.state
	for _, s := range l.segments {
		st.Waiting += l.waiting(s)
		st.Bytes += s.bytes()
	}
	return st
}

// waiting returns how many records of s wait.
func (l *Log) waiting(s *segment) int {
	if s.unreadable || s.left == 0 {
		return 0
	}
	return s.left - l.out.count(s.numbers())
}

// Append adds a record and returns its number. The record waits, or is on its way if out is set.
// After Close, Append does nothing.
func (l *Log) Append(ms int64, readings int, items []byte, out bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := l.next
	if l.closed {
		return seq
	}
	if l.newest().size >= l.segmentSize {
		l.roll()
	}
	l.write(appendRecord(nil, Record{seq, ms, readings, items}))
	l.newest().count(seq)
	l.next++
	if out {
		l.out.add(Range{seq, seq})
	}
	l.bound()
	return seq
}

// Keep forgets the records of r: the server has them. Numbers of r that the spool does not hold are
// ignored.
func (l *Log) Keep(r Range) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Last = min(r.Last, l.next-1)
	if l.closed || r.Len() == 0 {
		return
	}
	l.out.remove(r)
	l.forget(r)
}

// Return makes those records of r that are on their way wait again.
func (l *Log) Return(r Range) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.remove(r)
}

// Interval returns how often a collector is polled; 0 if that is not known.
func (l *Log) Interval(collector string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.every[collector]
}

// SetInterval notes how often a collector is polled, in whole milliseconds.
func (l *Log) SetInterval(collector string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.every[collector] != d {
		if len(l.every) >= maxIntervals {
			clear(l.every) // most are of collectors long gone; the others come back with their next poll
		}
		l.every[collector] = d
		l.write(appendEvery(nil, collector, d))
	}
}

// Close ends the use of the spool. What waits stays in the files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.newest().seal()
	if l.lock == nil {
		return nil
	}
	return l.lock.Close()
}

func (l *Log) newest() *segment { return l.segments[len(l.segments)-1] }

// write appends lines to the newest segment. If the disk does not take them, a segment in memory
// does; after retryEvery a new file is tried.
func (l *Log) write(lines []byte) {
	if l.closed {
		return
	}
	s := l.newest()
	if s.path == "" && l.dir != "" && !time.Now().Before(l.retry) {
		l.roll()
		s = l.newest()
	}
	if err := s.write(lines); err != nil {
		l.useMemory(err)
		_ = l.newest().write(lines) // memory
	}
}

func (l *Log) failed(err error) {
	l.state.Failures++
	l.state.LastError = err
}

// useMemory begins a segment in memory, because the disk took nothing.
func (l *Log) useMemory(err error) {
	l.failed(err)
	l.retry = time.Now().Add(retryEvery)
	l.push(&segment{})
}

// roll begins a new segment: a file if possible.
func (l *Log) roll() {
	if l.dir == "" || time.Now().Before(l.retry) {
		l.push(&segment{})
		return
	}
	s, err := l.create()
	if err != nil {
		l.useMemory(err)
		return
	}
	l.push(s)
}

func (l *Log) push(s *segment) {
	if len(l.segments) > 0 {
		l.newest().seal()
	}
	l.segments = append(l.segments, s)
	l.sweep()
}

// create makes the next file. It begins with all that is known, and that is synced, so that older
// files can be removed.
func (l *Log) create() (*segment, error) {
	l.ordinal++
	s := &segment{path: l.path(l.ordinal)}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s.file = f
	lines := appendHead(nil, l.next, l.state.Dropped)
	for _, r := range l.gone {
		lines = appendGone(lines, r, l.state.Dropped)
	}
	for _, name := range slices.Sorted(maps.Keys(l.every)) {
		lines = appendEvery(lines, name, l.every[name])
	}
	err = s.write(lines)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		s.seal()
		return nil, errors.Join(err, os.Remove(s.path))
	}
	return s, nil
}

// forget makes the records of r gone, in the files too. One line says so, so that a kill leaves all
// or nothing of it.
func (l *Log) forget(r Range) {
	if l.drop(r) {
		l.write(appendGone(nil, r, l.state.Dropped))
		l.sweep()
	}
}

// drop makes the records of r gone and reports whether there were any.
func (l *Log) drop(r Range) (any bool) {
	for _, s := range l.segments {
		part := Range{max(r.First, s.first), min(r.Last, s.last)}
		n := part.Len() - l.gone.count(part)
		if s.first == 0 || part.Len() == 0 || n == 0 {
			continue
		}
		l.gone.add(part)
		s.left -= n
		any = true
	}
	return any
}

// sweep removes the segments all of whose records are gone, but not the newest.
func (l *Log) sweep() {
	newest := l.newest()
	l.segments = slices.DeleteFunc(l.segments, func(s *segment) bool {
		if s == newest || s.left > 0 {
			return false
		}
		if s.path != "" {
			if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
				l.failed(err)
				return false
			}
		}
		if s.first > 0 {
			l.gone.remove(s.numbers())
		}
		return true
	})
}
