// Package commands is a source of collectors for the output of commands: a number, lines "stat
// value", or Prometheus' text form.
//
// Promise: a command runs when it is polled, in the background, and not more often than its
// interval; polls in between get the last values. A poll waits for a command a quarter of a second
// at most. A command that takes too long, or says too much, is killed with all the processes that it
// started (on Windows only the command itself), and two runs of one command never overlap. A run that
// failed gives no values but command_ok:0. A line that makes no sense costs only itself, and is
// counted by reason. Close kills what runs.
//
//	collector             tags                          stats
//	command_{name}        command:{name}                command_ok: 1, or 0 if the run failed; command_seconds: how long it took; values without labels
//	command_{name}_{...}  command:{name},{label}:{...}  values with these labels
//
// A number alone on a line is a stat with the command's name.
package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/promtext"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// Command is a command that gives values. Name and Line are required.
type Command struct {
	// Name is the name of the stat if the command writes only a number, and its tag command.
	Name string
	// Line is run by /bin/sh -c, on Windows by cmd /C.
	Line string
	// Interval is how often at most the command runs. Default 10 s.
	Interval time.Duration
	// Timeout is when the command is killed. Default 10 s.
	Timeout time.Duration
}

// Options say which commands are run.
type Options struct {
	Commands []Command
	// MaxBytes is how much a command may write; one that writes more is killed. Default 256 KiB.
	MaxBytes int
	// MaxSeries is how many series a command may have; more are left out. Default 1,000.
	MaxSeries int
	// Logger is told once a minute what was left out and which runs failed. Nil logs nothing.
	Logger *slog.Logger
}

var (
	errCommand = errors.New("commands: a command is name=command line, and its name has no '-', ':', ',' or '='")
	errHangs   = errors.New("commands: the command hangs")
)

// Parse reads a command from name=command line.
func Parse(text string) (Command, error) {
	name, line, _ := strings.Cut(text, "=")
	c := Command{Name: strings.TrimSpace(name), Line: strings.TrimSpace(line)}
	return c, c.check()
}

func (c Command) check() error {
	switch {
	case !relaywire.ValidName(c.Name) || len(c.Name) > 100 || strings.Contains(c.Name, "=") || c.Line == "":
		return fmt.Errorf("%w: %.100q", errCommand, c.Name+"="+c.Line)
	case c.Interval < 0 || c.Timeout < 0:
		return fmt.Errorf("commands: %s: interval and timeout are positive", c.Name)
	}
	return nil
}

// Source runs the commands. It implements source.Source.
type Source struct {
	cancel   context.CancelFunc
	commands []*command
	rejects  *source.Rejects
}

// command is one command and its last run.
type command struct {
	Command
	o       Options
	ctx     context.Context
	rejects *source.Rejects
	runs    *source.Cached[*run]
}

// run is what a run of a command gave. It never changes.
type run struct{ sets *promtext.Sets }

// New returns the source of some commands. No two may have one name.
func New(o Options) (*Source, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 10
	}
	if o.MaxSeries <= 0 {
		o.MaxSeries = 1000
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{cancel: cancel, rejects: source.NewRejects(o.Logger, "commands")}
	names := map[string]bool{}
	for _, c := range o.Commands {
		err := c.check()
		if err == nil && names[c.Name] {
			err = fmt.Errorf("commands: there are two called %s", c.Name)
		}
		if err != nil {
			cancel()
			return nil, err
		}
		names[c.Name] = true
		if c.Interval == 0 {
			c.Interval = 10 * time.Second
		}
		if c.Timeout == 0 {
			c.Timeout = 10 * time.Second
		}
		one := &command{Command: c, o: o, ctx: ctx, rejects: s.rejects}
		one.runs = source.NewCached(c.Interval, one.run)
		s.commands = append(s.commands, one)
	}
	return s, nil
}

// Rejected returns how much was left out and how many runs failed since the start, by reason.
func (s *Source) Rejected() map[string]uint64 { return s.rejects.Counts() }

// Close implements source.Source. It kills what runs.
func (s *Source) Close() { s.cancel() }

// Look implements source.Source. It has a group for each command.
func (s *Source) Look() []source.Group {
	s.rejects.Say()
	groups := make([]source.Group, len(s.commands))
	var all sync.WaitGroup
	for i, c := range s.commands {
		all.Go(func() { groups[i] = c.look() })
	}
	all.Wait()
	return groups
}

// look returns the collectors of the command's last run, and always that of the command itself.
func (c *command) look() source.Group {
	own := c.tags(nil)
	all := []source.Collector{c.collector("command_"+c.Name, own)}
	last, ok := c.runs.Get()
	switch {
	case last == nil: // the first run is not over
		return source.Group{Collectors: all}
	case !ok:
		return source.Group{Err: errHangs}
	}
	for _, set := range last.sets.All() {
		if promtext.Key(set.Tags) != promtext.Key(own) {
			all = append(all, c.collector(set.CollectorName("command"), set.Tags))
		}
	}
	source.Distinct(all)
	return source.Group{Collectors: all}
}

func (c *command) collector(name string, tags []string) source.Collector {
	key := promtext.Key(tags)
	return source.Collector{Name: name, Tags: tags, New: func() relay.Collector {
		return relay.CollectorFunc(func() map[string]float64 {
			last, ok := c.runs.Get()
			if !ok {
				return nil
			}
			if set := last.sets.Get(key); set != nil {
				return maps.Clone(set.Values)
			}
			return nil
		})
	}}
}

// tags puts the command's tag before those of a series.
func (c *command) tags(of []string) []string {
	return append([]string{source.Tag("command", c.Name)}, of...)
}

// Unit returns the unit of a stat: that of its name by Prometheus' rules, or "".
func Unit(stat string) string {
	switch stat {
	case "command_ok":
		return "count"
	case "command_seconds":
		return "seconds"
	}
	return promtext.Unit(stat)
}
