// Package textfile is a source of collectors for a directory of files in Prometheus' text form, as
// node_exporter's textfile collector reads it: *.prom files that cron jobs and timers write.
//
// Promise: files that node_exporter takes work as they are. A metric becomes a stat of that name, its
// labels become tags, and the lines of a file that have the same labels are one collector. A line
// that makes no sense costs only itself: it is left out and counted by reason. So are values that are
// not finite, lines with a timestamp (node_exporter refuses their files) and series that an earlier
// file has. A file is read when it has changed, at the next poll. Nothing is remembered of a file
// that is gone. Huge files and endless series are bounded; a directory that hangs yields nothing.
//
//	collector              tags           stats
//	textfile_{file}_{...}  {label}:{...}  those of the file, as they are
//	textfile_age_{file}    file:{name}    textfile_age: seconds since the file was written; textfile_rejected: lines left out
package textfile

import (
	"errors"
	"log/slog"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/promtext"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// Options say where the files are. Dir is required.
type Options struct {
	// Dir is the directory of the *.prom files.
	Dir string
	// MaxBytes is the size beyond which a file is left out. Default 4 MiB.
	MaxBytes int64
	// MaxSeries is how many series all files together may have; more are left out. Default 5,000.
	MaxSeries int
	// Logger is told once a minute what was left out. Nil logs nothing.
	Logger *slog.Logger
}

// reread is how often at most the directory is read.
const reread = time.Second

var (
	errDir    = errors.New("textfile: give the directory")
	errNotYet = errors.New("textfile: the directory does not answer")
)

// Source reads the directory. It implements source.Source.
type Source struct {
	snapshots *source.Cached[*snapshot]
	rejects   *source.Rejects
}

// New returns the source of a directory. The directory may be missing; it is read when it is there.
func New(o Options) (*Source, error) {
	if o.Dir == "" {
		return nil, errDir
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4 << 20
	}
	if o.MaxSeries <= 0 {
		o.MaxSeries = 5000
	}
	s := &Source{rejects: source.NewRejects(o.Logger, "textfile")}
	d := &directory{o: o, rejects: s.rejects}
	s.snapshots = source.NewCached(reread, d.read)
	return s, nil
}

// Rejected returns how much was left out since the start, by reason.
func (s *Source) Rejected() map[string]uint64 { return s.rejects.Counts() }

// Close implements source.Source.
func (s *Source) Close() {}

// Look implements source.Source.
func (s *Source) Look() []source.Group {
	s.rejects.Say()
	snap, ok := s.snapshots.Get()
	if !ok {
		return []source.Group{{Err: errNotYet}}
	}
	if snap.err != nil {
		return []source.Group{{Err: snap.err}}
	}
	var all []source.Collector
	for _, f := range snap.files {
		base := strings.TrimSuffix(f.name, ".prom")
		for _, set := range f.sets.All() {
			key := promtext.Key(set.Tags)
			all = append(all, s.collector(set.CollectorName("textfile_"+base), set.Tags, f.name, func(f *file) map[string]float64 {
				if set := f.sets.Get(key); set != nil {
					return maps.Clone(set.Values)
				}
				return nil
			}))
		}
		all = append(all, s.collector(source.Name("textfile_age_"+base), []string{source.Tag("file", f.name)}, f.name, func(f *file) map[string]float64 {
			return map[string]float64{"textfile_age": max(math.Round(time.Since(f.id.written).Seconds()), 0), "textfile_rejected": float64(f.rejected)}
		}))
	}
	source.Distinct(all)
	return []source.Group{{Collectors: all}}
}

// collector reads values from the newest snapshot's file of that name.
func (s *Source) collector(name string, tags []string, file string, values func(*file) map[string]float64) source.Collector {
	return source.Collector{Name: name, Tags: tags, New: func() relay.Collector {
		return relay.CollectorFunc(func() map[string]float64 {
			if snap, ok := s.snapshots.Get(); ok {
				if f := snap.find(file); f != nil {
					return values(f)
				}
			}
			return nil
		})
	}}
}

// Unit returns the unit of a stat: that of its name by Prometheus' rules, or "".
func Unit(stat string) string {
	switch stat {
	case "textfile_age":
		return "seconds"
	case "textfile_rejected":
		return "count"
	}
	return promtext.Unit(stat)
}
