package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire/relay/promtext"
)

// Reasons besides those of promtext.
const (
	unreadable = "unreadable"
	notFile    = "not a file"
	tooLarge   = "file too large"
)

// snapshot is the directory at one moment. It never changes.
type snapshot struct {
	files []*file // sorted by name
	err   error   // the directory cannot be read
}

func (s *snapshot) find(name string) *file {
	i, ok := slices.BinarySearchFunc(s.files, name, func(f *file, name string) int { return strings.Compare(f.name, name) })
	if !ok {
		return nil
	}
	return s.files[i]
}

// file is one version of a file. It never changes.
type file struct {
	name     string
	id       version
	raw      []promtext.Sample // of its good lines
	bad      int               // lines that gave nothing
	sets     *promtext.Sets    // of raw, without what earlier files have
	rejected int               // bad, and what earlier files have
}

// version changes when a file is written.
type version struct {
	written time.Time
	size    int64
	info    os.FileInfo
}

func (v version) same(w version) bool {
	return v.written.Equal(w.written) && v.size == w.size && os.SameFile(v.info, w.info)
}

// directory makes snapshots. The one that makes them uses it.
type directory struct {
	o       Options
	rejects counter
	last    *snapshot
	said    map[string]version // files that are left out as a whole, and were counted
	failing bool               // the directory could not be read, and that was counted
}

// counter is what a directory needs of source.Rejects.
type counter interface {
	Add(reason string, n int, where string)
}

func (d *directory) read() *snapshot {
	names, err := d.names()
	if err != nil {
		if !d.failing {
			d.rejects.Add(unreadable, 1, err.Error())
		}
		d.failing = true
		return &snapshot{err: err}
	}
	d.failing = false
	old := d.last
	if old == nil {
		old = &snapshot{}
	}
	next := &snapshot{}
	said := map[string]version{}
	for _, name := range names {
		if f := d.open(name, old.find(name), said); f != nil {
			next.files = append(next.files, f)
		}
	}
	d.said = said
	if !slices.Equal(next.files, old.files) {
		d.distribute(next)
	}
	d.last = next
	return next
}

// distribute gives each series to the first file that has it, and keeps the bound of all series.
func (d *directory) distribute(s *snapshot) {
	seen, rejected := map[string]bool{}, tally{}
	for i, old := range s.files {
		f := *old
		f.sets, f.rejected = promtext.NewSets(), f.bad
		for _, sample := range f.raw {
			stat, tags, err := promtext.Series(sample)
			key := stat + "," + promtext.Key(tags)
			switch {
			case err != nil:
			case seen[key]:
				err = promtext.ErrDuplicate
			case len(seen) == d.o.MaxSeries:
				err = promtext.ErrTooMany
			}
			if err != nil {
				f.rejected++
				if old.sets == nil { // else it was counted before
					rejected.add(err, func() string { return fmt.Sprintf("%s: %s %s", f.name, stat, tags) })
				}
				continue
			}
			seen[key] = true
			f.sets.Add(tags, stat, sample.Value)
		}
		s.files[i] = &f
	}
	rejected.giveTo(d.rejects)
}

// tally counts by reason, with the first example of each.
type tally map[error]*tallied

type tallied struct {
	n     int
	where string
}

func (t tally) add(reason error, where func() string) {
	if t[reason] == nil {
		t[reason] = &tallied{where: where()}
	}
	t[reason].n++
}

func (t tally) giveTo(rejects counter) {
	for reason, c := range t {
		rejects.Add(reason.Error(), c.n, c.where)
	}
}

func (d *directory) names() (names []string, err error) {
	f, err := os.Open(d.o.Dir)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		// Files that are being written often have names such as .apt.prom.1234 or apt.prom.tmp.
		if strings.HasSuffix(name, ".prom") && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// open returns the file, which is old if it has not changed. It returns nil for a file that is left
// out as a whole, and counts that once for a version of the file.
func (d *directory) open(name string, old *file, said map[string]version) *file {
	path := filepath.Join(d.o.Dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(path); err != nil {
			return nil // it went away since
		}
	}
	var id version
	leaveOut := func(reason, where string) *file {
		if before, ok := d.said[name]; !ok || id.info != nil && (before.info == nil || !before.same(id)) {
			d.rejects.Add(reason, 1, where)
		}
		said[name] = id
		return nil
	}
	if err != nil {
		return leaveOut(unreadable, err.Error())
	}
	id = version{info.ModTime(), info.Size(), info}
	switch {
	case !info.Mode().IsRegular(): // opening a named pipe would block
		return leaveOut(notFile, path)
	case info.Size() > d.o.MaxBytes:
		return leaveOut(tooLarge, fmt.Sprintf("%s: %d bytes", path, info.Size()))
	case old != nil && old.id.same(id):
		return old
	}
	text, err := readAll(path, d.o.MaxBytes)
	if err != nil {
		return leaveOut(unreadable, err.Error())
	}
	f := &file{name: name, id: id}
	rejected := tally{}
	promtext.Parse(text, func(number int, line []byte, s promtext.Sample, err error) bool {
		if err == nil && len(f.raw) == d.o.MaxSeries {
			err = promtext.ErrTooMany
		}
		if err != nil {
			f.bad++
			rejected.add(err, func() string { return fmt.Sprintf("%s:%d: %.100s", name, number, line) })
			return true
		}
		f.raw = append(f.raw, s)
		return true
	})
	rejected.giveTo(d.rejects)
	return f
}

// readAll reads at most limit bytes: the file may grow while it is read. What is cut off then is an
// unfinished line.
func readAll(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(f, limit))
	return b.Bytes(), err
}
