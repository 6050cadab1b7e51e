// Package processes is a source of collectors for processes by name: how many there are, and what
// they use together.
//
// Promise: each pattern is a collector that is always there, so that process_count is 0 when nothing
// runs. The processes are read once for all patterns that are polled together. A process that ends
// between two polls takes the processor time of its last moments with it. Zombies do not count.
//
//	collector          tag                stats
//	process_{pattern}  process:{pattern}  process_count: processes; process_rss: resident bytes; process_cpu: percent of one processor since the last poll
//
// A pattern is compared with the name of the program, as ps and top show it: * stands for any text,
// ? for one character. Names of more than 15 characters, which Linux cuts, are taken from the command
// line.
package processes

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// Options say which processes are watched.
type Options struct {
	// Patterns are names of programs, such as nginx or postgres*. Each is a collector.
	Patterns []string
	// Logger is told when processes cannot be read. Nil logs nothing.
	Logger *slog.Logger
}

// rescan is how often at most the processes are read.
const rescan = 200 * time.Millisecond

var errPattern = errors.New("processes: a pattern is the name of a program, without ',' and '/'")

// process is a process at one moment.
type process struct {
	id   identity
	name string
	cpu  time.Duration // used since its start
	rss  float64       // bytes
}

// identity is a process for as long as it lives: its number may be used again.
type identity struct {
	pid     int
	started uint64
}

// scan holds what the processes of each pattern used at one moment. It never changes.
type scan struct {
	at       time.Time
	number   uint64
	matching [][]process
}

// Source reads the processes. It implements source.Source.
type Source struct {
	patterns []string
	list     func(wanted source.Globs) ([]process, error)
	now      func() time.Time
	scans    *source.Cached[*scan]
	rejects  *source.Rejects
	number   uint64 // of the newest scan; of the one that scans
}

// New returns the source of some patterns.
func New(o Options) (*Source, error) {
	s := newSource(o, (&lister{}).list)
	seen := map[string]bool{}
	for _, p := range o.Patterns {
		if p == "" || strings.ContainsAny(p, ",/\x00\n") || len(p) > 100 || seen[p] {
			return nil, fmt.Errorf("%w, once: %.100q", errPattern, p)
		}
		seen[p] = true
	}
	return s, nil
}

func newSource(o Options, list func(source.Globs) ([]process, error)) *Source {
	s := &Source{patterns: o.Patterns, list: list, now: time.Now, rejects: source.NewRejects(o.Logger, "processes")}
	s.scans = source.NewCached(rescan, s.scan)
	return s
}

// Rejected returns how often the processes could not be read, by reason.
func (s *Source) Rejected() map[string]uint64 { return s.rejects.Counts() }

// Close implements source.Source.
func (s *Source) Close() {}

// Look implements source.Source.
func (s *Source) Look() []source.Group {
	s.rejects.Say()
	var all []source.Collector
	for i, p := range s.patterns {
		all = append(all, source.Collector{
			Name: "process_" + source.Name(p), Tags: []string{source.Tag("process", p)},
			New: func() relay.Collector { return s.collector(i) },
		})
	}
	source.Distinct(all)
	return []source.Group{{Collectors: all}}
}

// scan reads the processes once. It returns nil if that fails.
func (s *Source) scan() *scan {
	all, err := s.list(source.Globs(s.patterns))
	if err != nil {
		s.rejects.Add("unreadable", 1, err.Error())
		return nil
	}
	s.number++
	found := &scan{at: s.now(), number: s.number, matching: make([][]process, len(s.patterns))}
	for i, pattern := range s.patterns {
		for _, p := range all {
			if (source.Globs{pattern}).Match(p.name) {
				found.matching[i] = append(found.matching[i], p)
			}
		}
	}
	return found
}

// collector counts the processor time from its creation to the first poll, and then from poll to
// poll.
func (s *Source) collector(pattern int) relay.CollectorFunc {
	last, _ := s.scans.Get()
	cpu, measured := 0.0, false
	return func() map[string]float64 {
		now, ok := s.scans.Get()
		if !ok || now == nil {
			return nil
		}
		procs := now.matching[pattern]
		values := map[string]float64{"process_count": float64(len(procs)), "process_rss": 0}
		for _, p := range procs {
			values["process_rss"] += p.rss
		}
		if last != nil && now.number != last.number {
			cpu, measured = usage(last, now, pattern), true
		}
		if measured {
			values["process_cpu"] = cpu
		}
		last = now
		return values
	}
}

// usage returns percent of one processor between two scans. A process that was not there before, or
// had another name, counts as one that used one processor at most.
func usage(before, now *scan, pattern int) float64 {
	used := make(map[identity]time.Duration, len(before.matching[pattern]))
	for _, p := range before.matching[pattern] {
		used[p.id] = p.cpu
	}
	elapsed := now.at.Sub(before.at)
	if elapsed <= 0 {
		return 0
	}
	var total time.Duration
	for _, p := range now.matching[pattern] {
		old, known := used[p.id]
		switch {
		case known && p.cpu > old:
			total += p.cpu - old
		case !known:
			total += min(p.cpu, elapsed)
		}
	}
	return source.Round(100 * total.Seconds() / elapsed.Seconds())
}

// Unit returns the unit of a stat, or "" for one that is not of this package.
func Unit(stat string) string {
	return map[string]string{"process_count": "count", "process_cpu": "percent", "process_rss": "bytes"}[stat]
}
