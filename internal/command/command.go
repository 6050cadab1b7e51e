// Package command is what the programs pulse and pulse-relay have in common: flags that are also
// environment variables and keys of a config file, help texts, the messages about mistakes, exit
// codes, the log, and what is made of the tables of flags: completion scripts and manual pages.
package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/nearest"
)

// Exit codes. A supervisor restarts after 1. It also restarts after 2, with which the Go runtime
// ends a process on a panic, SIGABRT (systemd's watchdog sends it), SIGSEGV or a lack of memory. A
// wrong command line, environment or config file needs a person. Its code is EX_CONFIG of
// sysexits.h, which nothing else gives.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 78
)

// OneLine returns the text of an error, of joined errors too, as one line for the end of a program:
// people read the last line.
func OneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// A Command is what all commands have in common: flags that are also environment variables, the
// help text, and the messages about mistakes. Its name is that of its FlagSet. New makes one.
type Command struct {
	*flag.FlagSet
	Stdout, Stderr io.Writer

	Argument string       // what it takes besides its flags, once; "" for nothing
	Verb     string       // what it does besides, when this is its first argument; "" for nothing
	Commands []Subcommand // of a program whose help this is

	// Example is the flag with which -h shows the other sources of flags; "" for the first.
	Example string

	// Shorts are short flags that it does not have, with the long ones that they suggest.
	Shorts map[string]string

	// Zone returns the time zone of the dates and times that it takes and shows; nil if there are
	// none. Location is that zone, after Begin.
	Zone     func() (*time.Location, error)
	Location *time.Location

	long     string   // what it does, for -h
	env      string   // what its environment variables begin with; "" if it has none
	borrowed []Option // see Borrow
}

// New makes a command. name is as people type it, such as "pulse status". long says what it does.
// env is what its environment variables begin with; "" if it has none.
func New(name, long, env string, stdout, stderr io.Writer) *Command {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return &Command{FlagSet: fs, Stdout: stdout, Stderr: stderr, long: long, env: env}
}

// Borrow adds flags of the server. The command does not read them; Borrowed passes them on.
func (c *Command) Borrow(o Option) {
	o.Short = "" // commands have long flags only
	c.borrowed = append(c.borrowed, o)
	c.Var(&Value{Text: o.Default, Switch: o.Kind == ""}, o.Long, o.Help)
}

// Borrowed returns those flags of the server that were given on the command line, as arguments.
func (c *Command) Borrowed() (args []string) {
	for _, o := range c.borrowed {
		if v := c.Lookup(o.Long).Value.(*Value); c.Given(o.Long) && v.From == "" { // the server's flags are also variables
			args = append(args, "--"+o.Long+"="+v.Text)
		}
	}
	return args
}

// Given reports whether a flag was set, on the command line or in the environment.
func (c *Command) Given(name string) bool {
	given := false
	c.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// CutVerb removes verb from args, if verb is the first of them that is neither a flag nor the value
// of a flag.
func CutVerb(args []string, verb string) (rest []string, found bool) {
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
func (c *Command) parseFlags(args []string) error {
	others := []string{"--"}
	for ended := false; !ended && len(args) > 0; {
		if err := unknownFlag(c.FlagSet, c.Shorts, args); err != nil {
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

// Begin reads the flags. If done is true, help was asked for or a flag is wrong, and the command
// ends with the code.
func (c *Command) Begin(args []string) (done bool, code int) {
	err := c.parseFlags(args)
	if err == nil && c.env != "" {
		err = SetFromEnvironment(c.FlagSet, c.env)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help()
		return true, ExitOK
	case err != nil:
		return true, c.Misused(err)
	case c.Argument == "" && c.NArg() > 0:
		hint := ""
		switch {
		case c.Verb == "":
		case nearest.Name(c.Arg(0), []string{c.Verb}) != "":
			hint = fmt.Sprintf("; did you mean %q?", c.Name()+" "+c.Verb)
		default:
			hint = fmt.Sprintf("; %s -h shows what it takes", c.Name())
		}
		return true, c.Misused(fmt.Errorf("unexpected argument %q%s", c.Arg(0), hint))
	case c.Argument != "" && c.NArg() == 0:
		return true, c.Misused(fmt.Errorf("%s is missing: %s [flags] %s", c.Argument, c.Name(), c.Argument))
	case c.Argument != "" && c.NArg() > 1:
		return true, c.Misused(fmt.Errorf("unexpected argument %q: it takes one %s", c.Arg(1), c.Argument))
	}
	if c.Zone != nil {
		if c.Location, err = c.Zone(); err != nil {
			return true, c.Misused(err)
		}
	}
	return false, ExitOK
}

// Misused writes what is wrong with the command line, and returns the exit code.
func (c *Command) Misused(err error) int {
	fmt.Fprintf(c.Stderr, "%s: %s\n", c.Name(), OneLine(err))
	return ExitUsage
}

// Failed writes why the command failed, and returns the exit code.
func (c *Command) Failed(err error) int {
	fmt.Fprintf(c.Stderr, "%s: %s\n", c.Name(), OneLine(err))
	return ExitFailure
}

// Write has print write to standard output, and returns the exit code. A full disk is a failure. A
// reader that has seen enough, such as head, is not.
func (c *Command) Write(print func(io.Writer) error) int {
	if err := print(c.Stdout); err != nil && !errors.Is(err, syscall.EPIPE) {
		return c.Failed(err)
	}
	return ExitOK
}
