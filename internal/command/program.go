package command

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/nanopack/pulse/internal/nearest"
)

// A RunFunc runs a command until it is done or ctx ends, and returns the exit code.
type RunFunc func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// A Subcommand is a command that is the first argument of a program.
type Subcommand struct {
	Name, Help string
	Run        RunFunc
	Verbs      []string // second arguments that make another command of it
	Reloads    bool     // whether SIGHUP does not end it
}

// A Program is one of the programs of Pulse.
type Program struct {
	Name    string // "pulse"
	Summary string // what it is, for the manual page
	// Description is what it does, for the manual page. The help of a program that has one
	// (Page.Long) is used in its place.
	Description string
	Release     string // what the Makefile sets; see Version
	// Commands are those of the program itself. Every program has help, version, completion and man
	// besides.
	Commands []Subcommand
	// Run is the program without a sub-command. Hint says so where a sub-command is unknown.
	Run  RunFunc
	Hint string
}

// All returns the sub-commands in the order in which -h lists them.
func (p *Program) All() []Subcommand {
	return append(slices.Clone(p.Commands),
		Subcommand{Name: "completion", Help: "write a script that completes commands and flags, for bash, zsh or fish", Run: p.runCompletion},
		Subcommand{Name: "help", Help: "show this, or the flags of a command", Run: p.runHelp},
		Subcommand{Name: "man", Help: "write the manual page", Run: p.runMan},
		Subcommand{Name: "version", Help: "print version info", Run: p.runVersion},
	)
}

// CommandNames returns the names of the sub-commands, for messages.
func (p *Program) CommandNames() string {
	var names []string
	for _, s := range p.All() {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// Start runs the sub-command that args begin with, or the program.
func (p *Program) Start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return p.Run(ctx, args, stdout, stderr)
	}
	all := p.All()
	i := slices.IndexFunc(all, func(s Subcommand) bool { return s.Name == args[0] })
	if i < 0 {
		meant := nearest.Name(args[0], strings.Split(p.CommandNames(), ", "))
		if meant != "" {
			meant = fmt.Sprintf("; did you mean %q?", meant)
		}
		fmt.Fprintf(stderr, "%s: unknown command %q: there is %s; %s%s\n", p.Name, args[0], p.CommandNames(), p.Hint, meant)
		return ExitUsage
	}
	if !all[i].Reloads && !signal.Ignored(syscall.SIGHUP) { // nohup stays nohup
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	return all[i].Run(ctx, args[1:], stdout, stderr)
}

// runHelp is `pulse help [command]`.
func (p *Program) runHelp(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := New(p.Name+" help", "", "", stdout, stderr)
	withVerbs := func(s Subcommand) bool { return len(args) > 0 && s.Name == args[0] && len(s.Verbs) > 0 }
	switch {
	case len(args) == 2 && slices.ContainsFunc(p.Commands, withVerbs):
	case len(args) > 1:
		return c.Misused(fmt.Errorf("unexpected argument %q: %s takes one command", args[1], c.Name()))
	case len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help":
		return p.Run(ctx, []string{"-h"}, stdout, stderr)
	case strings.HasPrefix(args[0], "-"):
		return c.Misused(fmt.Errorf("unknown flag %s", args[0]))
	}
	return p.Start(ctx, append(slices.Clone(args), "-h"), stdout, stderr)
}

// runVersion is `pulse version`.
func (p *Program) runVersion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	c := New(p.Name+" version", "Print version info.", "", stdout, stderr)
	if done, code := c.Begin(args); done {
		return code
	}
	return c.Write(func(w io.Writer) error {
		_, err := fmt.Fprintln(w, p.Name, Version(p.Release))
		return err
	})
}

// pages returns the help of the program, of each of its commands and of each verb of these.
func (p *Program) pages(ctx context.Context) (root Page, commands []Page) {
	shown := func(args ...string) Page {
		var taken onePage
		p.Start(ctx, append(args, "-h"), &taken, io.Discard)
		return taken.Page
	}
	root = shown()
	for _, s := range p.All() {
		if s.Name == "help" {
			continue // it takes the names of the others
		}
		commands = append(commands, shown(s.Name))
		for _, verb := range s.Verbs {
			commands = append(commands, shown(s.Name, verb))
		}
	}
	return root, commands
}

// onePage is a standard output that keeps a Page in place of text.
type onePage struct{ Page }

func (o *onePage) takePage(p Page)             { o.Page = p }
func (o *onePage) Write(b []byte) (int, error) { return len(b), nil }
