package agent

import (
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/relaywire/relay/commands"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
	"github.com/nanopack/pulse/relaywire/relay/processes"
	"github.com/nanopack/pulse/relaywire/relay/source"
	"github.com/nanopack/pulse/relaywire/relay/textfile"
)

// Sources say what the agent gathers. The zero Sources are none.
type Sources struct {
	Host      *hoststats.Options // of the machine; nil for nothing
	Textfile  string             // a directory of *.prom files; "" for none
	Commands  []commands.Command
	Processes []string // patterns
}

// A kind is one kind of source.
type kind struct {
	name    string             // the flag that switches it on
	options func(*Sources) any // what makes another source of it
	make    func(*Sources, *slog.Logger) (source.Source, error)
	unit    func(stat string) string
}

// kinds are all kinds of sources. make returns nil for one that is off.
var kinds = []kind{
	{"host-stats", func(s *Sources) any { return s.Host }, func(s *Sources, _ *slog.Logger) (source.Source, error) {
		if s.Host == nil {
			return nil, nil
		}
		return hoststats.New(*s.Host), nil
	}, hoststats.Unit},
	{"textfile", func(s *Sources) any { return s.Textfile }, func(s *Sources, log *slog.Logger) (source.Source, error) {
		if s.Textfile == "" {
			return nil, nil
		}
		return textfile.New(textfile.Options{Dir: s.Textfile, Logger: log})
	}, textfile.Unit},
	{"command", func(s *Sources) any { return s.Commands }, func(s *Sources, log *slog.Logger) (source.Source, error) {
		if len(s.Commands) == 0 {
			return nil, nil
		}
		return commands.New(commands.Options{Commands: s.Commands, Logger: log})
	}, commands.Unit},
	{"processes", func(s *Sources) any { return s.Processes }, func(s *Sources, log *slog.Logger) (source.Source, error) {
		if len(s.Processes) == 0 {
			return nil, nil
		}
		return processes.New(processes.Options{Patterns: s.Processes, Logger: log})
	}, processes.Unit},
}

// rank is where the kind stands among the others: what two send belongs to the first.
func (k kind) rank() int {
	return slices.IndexFunc(kinds, func(other kind) bool { return other.name == k.name })
}

// check returns why the sources cannot be made, with the flag.
func (s *Sources) check() error {
	if info, err := os.Stat(s.Textfile); s.Textfile != "" && err == nil && !info.IsDir() {
		return fmt.Errorf("--textfile: %s is no directory", s.Textfile)
	}
	for _, k := range kinds {
		made, err := k.make(s, nil)
		if err != nil {
			return fmt.Errorf("--%s: %w", k.name, err)
		}
		if made != nil {
			made.Close()
		}
	}
	return nil
}

// changed returns the kinds of which next has another source.
func (s *Sources) changed(next *Sources) []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
		return reflect.DeepEqual(k.options(s), k.options(next))
	})
}

// sourceFlags are the flags that say what the agent gathers. A running agent takes over their new
// values.
type sourceFlags struct {
	hostStats                   *bool
	mounts, mountsExclude       *command.List
	devices, devicesExclude     *command.List
	interfaces, interfacesExcl  *command.List
	textfile                    *string
	commands                    *command.List
	commandInterval             *string
	commandTimeout              *string
	processes                   *command.List
	standardDevs, standardIface string // the defaults of the filters that have one
}

// sourceNames are the names of the source flags.
var sourceNames = []string{
	"command", "command-interval", "command-timeout", "devices", "devices-exclude", "host-stats", "interfaces", "interfaces-exclude",
	"mounts", "mounts-exclude", "processes", "textfile",
}

func addSourceFlags(c *command.Command) sourceFlags {
	list := func(name, separator, help string, standard ...string) *command.List {
		l := command.NewList(separator, standard...)
		c.Var(l, name, help)
		return l
	}
	f := sourceFlags{
		hostStats:       c.Bool("host-stats", true, "Send the stats of this host"),
		mounts:          list("mounts", ",", "File systems to report, by `globs` of their paths; empty for all"),
		mountsExclude:   list("mounts-exclude", ",", "File systems to leave out, by `globs` of their paths"),
		devices:         list("devices", ",", "Disks whose reads and writes are reported, by `globs`; empty for all"),
		devicesExclude:  list("devices-exclude", ",", "Disks to leave out, by `globs`; the default holds only without --devices", hoststats.DefaultDevicesExclude()...),
		interfaces:      list("interfaces", ",", "Network interfaces to report, by `globs`; empty for all"),
		interfacesExcl:  list("interfaces-exclude", ",", "Network interfaces to leave out, by `globs`; the default holds only without --interfaces", hoststats.DefaultInterfacesExclude()...),
		textfile:        c.String("textfile", "", "Send what *.prom files in a `directory` say, as node_exporter's textfile collector reads them"),
		commands:        list("command", "\n", "Send what a command writes, as `name=command`; may be given again"),
		commandInterval: c.String("command-interval", "10s", "Time within which a command runs only once, however often it is polled"),
		commandTimeout:  c.String("command-timeout", "10s", "Time after which a command is killed"),
		processes:       list("processes", ",", "Send the number and the use of processes, by `globs` of their names"),
	}
	f.standardDevs, f.standardIface = f.devicesExclude.String(), f.interfacesExcl.String()
	return f
}

// read returns the sources that the flags describe. The error names the flag.
func (f sourceFlags) read() (Sources, error) {
	s := Sources{Textfile: *f.textfile, Processes: f.processes.Texts()}
	if *f.hostStats {
		filter := func(include, exclude *command.List, standard string) source.Filter {
			if exclude.String() == standard {
				return source.Filter{Include: include.Texts()} // the default, which an include switches off
			}
			return source.Filter{Include: include.Texts(), Exclude: exclude.Texts()}
		}
		s.Host = &hoststats.Options{
			Mounts:     filter(f.mounts, f.mountsExclude, ""),
			Devices:    filter(f.devices, f.devicesExclude, f.standardDevs),
			Interfaces: filter(f.interfaces, f.interfacesExcl, f.standardIface),
		}
	}
	interval, err := durationOf("command-interval", *f.commandInterval, 24*time.Hour)
	if err != nil {
		return s, err
	}
	timeout, err := durationOf("command-timeout", *f.commandTimeout, time.Hour)
	if err != nil {
		return s, err
	}
	for _, text := range f.commands.Texts() {
		one, err := commands.Parse(text)
		if err != nil {
			return s, fmt.Errorf("--command: %w", err)
		}
		one.Interval, one.Timeout = interval, timeout
		s.Commands = append(s.Commands, one)
	}
	return s, s.check()
}

func durationOf(flag, text string, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond || d > most {
		return 0, fmt.Errorf("--%s: must be a duration of 1ms to %gh, such as 10s, not %q", flag, most.Hours(), text)
	}
	return d, nil
}
