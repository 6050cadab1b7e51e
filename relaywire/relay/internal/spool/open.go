package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// leap is how far the numbers jump at a start: more than the records that a machine without power
// can have lost.
const leap = 1 << 30

// suffix ends the names of the files: {id}-{ordinal, 10 digits}.spool.
const suffix = ".spool"

// Open opens the spool of dir, which is made if it does not exist; without dir the spool is in
// memory. maximum bounds its bytes: 0 means DefaultBytes or DefaultMemory. The error is ErrInUse or
// one of the file system.
func Open(dir string, maximum int64) (*Log, error) {
	l := &Log{dir: dir, maximum: maximum, every: map[string]time.Duration{}, next: 1}
	if maximum == 0 {
		l.maximum = DefaultBytes
		if dir == "" {
			l.maximum = DefaultMemory
		}
	}
	l.maximum = max(l.maximum, MinBytes)
	l.memory = min(l.maximum, DefaultMemory)
	l.segmentSize = max(l.maximum/256, 64<<10)
	if dir == "" {
		l.id = newID()
		l.segments = []*segment{{}}
		return l, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	l.lock = lock
	if err := l.load(); err != nil {
		for _, s := range l.segments {
			s.seal()
		}
		return nil, fmt.Errorf("spool %s: %w", dir, errors.Join(err, lock.Close()))
	}
	return l, nil
}

func newID() relaywire.SpoolID { return relaywire.SpoolID(rand.Uint32()) }

func (l *Log) path(ordinal uint64) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s-%010d%s", l.id, ordinal, suffix))
}

// load reads the files and begins a new one. Files from before are never written to, so a torn last
// line stays where it is.
func (l *Log) load() error {
	ordinals, err := l.files()
	if err != nil {
		return err
	}
	var gone ranges
	found := false
	for _, n := range ordinals {
		l.ordinal = n
		s, err := l.loadSegment(l.path(n), &gone, &found)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
	}
	if found && l.next < maxNumber/2 {
		l.next += leap
	} else {
		// Nothing says which numbers are used, so none of the old id may be given out.
		for _, s := range l.segments {
			if err := os.Remove(s.path); err != nil {
				return err
			}
		}
		l.id, l.segments, l.ordinal, l.next, l.state.Dropped = newID(), nil, 0, 1, 0
	}
	for _, r := range gone {
		l.drop(r)
	}
	s, err := l.create()
	if err != nil {
		return err
	}
	l.push(s)
	l.bound()
	return nil
}

// files finds the spool's id and the ordinals of its files in ascending order.
func (l *Log) files() (ordinals []uint64, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		digits, rest, _ := strings.Cut(strings.TrimSuffix(e.Name(), suffix), "-")
		id, err := strconv.ParseUint(digits, 16, 32)
		n, err2 := strconv.ParseUint(rest, 10, 63)
		of := Log{id: relaywire.SpoolID(id)}
		switch {
		case err != nil || err2 != nil || of.path(n) != e.Name():
			continue // not a file of a spool
		case len(ordinals) > 0 && l.id != of.id:
			return nil, fmt.Errorf("files of two spools, %s and %s: remove those of one", l.id, of.id)
		}
		l.id = of.id
		ordinals = append(ordinals, n)
	}
	slices.Sort(ordinals)
	return ordinals, nil
}

// loadSegment reads one file. It adds to gone and sets found if a line named a number.
func (l *Log) loadSegment(path string, gone *ranges, found *bool) (*segment, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, size: info.Size()}
	damaged, err := s.scan(func(n line) {
		switch n.word {
		case wordHead:
			*found = true
			l.next = max(l.next, n.numbers[0])
			l.state.Dropped = max(l.state.Dropped, n.numbers[1])
		case wordGone:
			gone.add(n.gone())
			l.state.Dropped = max(l.state.Dropped, n.numbers[2])
		case wordEvery:
			if d := time.Duration(n.numbers[0]) * time.Millisecond; d > 0 {
				l.every[string(n.text)] = d
			}
		case wordRecord:
			*found = true
			if seq := n.numbers[0]; seq >= l.next { // always, unless somebody changed the files
				gone.add(s.count(seq))
				l.next = seq + 1
			}
		}
	})
	l.state.Damaged += damaged
	return s, err
}
