package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/internal/timezone"
)

// A command is what all sub-commands have in common: flags that are also environment variables, the
// help text, and the messages about mistakes.
type command struct {
	*flag.FlagSet
	stdout, stderr io.Writer

	name string
	long string // what it does, for -h
	env  string // what its environment variables begin with; "" if it has none

	argument string // what it takes besides its flags, once; "" for nothing
	verb     string // what it does besides, when this is its first argument; "" for nothing

	server []option // flags of the server that it takes besides, see takes

	zone timezone.Zone // of the dates and times that it takes and shows, once the flags are parsed
}

func newCommand(name, long, env string, stdout, stderr io.Writer) *command {
	fs := flag.NewFlagSet("pulse "+name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return &command{FlagSet: fs, stdout: stdout, stderr: stderr, name: name, long: long, env: env}
}

// takes adds flags of the server, by their long names. The command does not read them; serverConfig
// passes them to ParseConfig.
func (c *command) takes(names ...string) {
	for _, o := range options() {
		for _, name := range names {
			if o.long == name {
				o.short = "" // commands have long flags only
				c.server = append(c.server, o)
				c.Var(&rawValue{text: o.def, isBool: o.kind == ""}, name, o.help)
			}
		}
	}
}

// serverConfig returns the configuration of the server, from those of its flags that were given,
// the environment and the config file.
func (c *command) serverConfig() (*Config, error) {
	var args []string
	for _, o := range c.server {
		if v := c.Lookup(o.long).Value.(*rawValue); c.given(o.long) && v.from == "" { // ParseConfig reads the environment itself
			args = append(args, "--"+o.long+"="+v.text)
		}
	}
	return ParseConfig(args)
}

// given reports whether a flag was set, on the command line or in the environment.
func (c *command) given(name string) bool {
	given := false
	c.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// cutVerb removes verb from args, if verb is the first of them that is neither a flag nor the value
// of a flag.
func cutVerb(args []string, verb string) (rest []string, found bool) {
	for i := 0; i < len(args); i++ {
		flag := strings.TrimLeft(args[i], "-")
		switch {
		case args[i] == verb:
			return slices.Delete(slices.Clone(args), i, i+1), true
		case flag == args[i] || flag == "":
			return args, false
		case strings.Contains(flag, "="), slices.Contains([]string{"json", "h", "help"}, flag):
		default:
			i++ // its value
		}
	}
	return args, false
}

// parseFlags reads the flags, which may stand before and after the other arguments. Nothing after
// -- is a flag.
func (c *command) parseFlags(args []string) error {
	others := []string{"--"}
	for ended := false; !ended && len(args) > 0; {
		if err := unknownFlag(c.FlagSet, args); err != nil {
			return err
		}
		if err := c.Parse(args); err != nil {
			return err
		}
		read := len(args) - c.NArg()
		ended = read > 0 && args[read-1] == "--"
		if args = args[read:]; !ended && len(args) > 0 {
			others, args = append(others, args[0]), args[1:]
		}
	}
	return c.Parse(append(others, args...)) // which leaves them as the arguments
}

// parse reads the flags. If done is true, help was asked for or a flag is wrong, and the command
// ends with the code.
func (c *command) parse(args []string) (done bool, code int) {
	err := c.parseFlags(args)
	if err == nil && c.env != "" {
		err = setFromEnvironment(c.FlagSet, c.env)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help()
		return true, exitOK
	case err != nil:
		return true, c.misused(err)
	case c.argument == "" && c.NArg() > 0:
		hint := ""
		switch {
		case c.verb == "":
		case nearest.Name(c.Arg(0), []string{c.verb}) != "":
			hint = fmt.Sprintf("; did you mean %q?", "pulse "+c.name+" "+c.verb)
		default:
			hint = fmt.Sprintf("; pulse %s -h shows what it takes", c.name)
		}
		return true, c.misused(fmt.Errorf("unexpected argument %q%s", c.Arg(0), hint))
	case c.argument != "" && c.NArg() == 0:
		return true, c.misused(fmt.Errorf("%s is missing: pulse %s [flags] %s", c.argument, c.name, c.argument))
	case c.argument != "" && c.NArg() > 1:
		return true, c.misused(fmt.Errorf("unexpected argument %q: it takes one %s", c.Arg(1), c.argument))
	}
	if c.env == "" {
		return false, exitOK // it has to do with no time
	}
	if c.zone, err = timezone.Local(); err != nil {
		return true, c.misused(err)
	}
	return false, exitOK
}

// misused writes what is wrong with the command line, and returns the exit code.
func (c *command) misused(err error) int {
	fmt.Fprintf(c.stderr, "pulse %s: %s\n", c.name, oneLine(err))
	return exitUsage
}

// failed writes why the command failed, and returns the exit code.
func (c *command) failed(err error) int {
	fmt.Fprintf(c.stderr, "pulse %s: %s\n", c.name, oneLine(err))
	return exitFailure
}

// write has print write to standard output, and returns the exit code. A full disk is a failure. A
// reader that has seen enough, such as head, is not.
func (c *command) write(print func(io.Writer) error) int {
	if err := print(c.stdout); err != nil && !errors.Is(err, syscall.EPIPE) {
		return c.failed(err)
	}
	return exitOK
}
