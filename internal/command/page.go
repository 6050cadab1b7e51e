package command

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"strings"
)

// A Page is the help of a program or of a command. Help texts, completion scripts and manual pages
// are made of it.
type Page struct {
	Name     string // as people type it: "pulse status"
	Long     string // what it does
	Argument string // what it takes besides its flags
	Commands []Subcommand
	Flags    []Option
	Server   []Option // flags of the server that it takes besides
	Env      string   // what its environment variables begin with
	Example  string   // see Command
	File     bool     // whether its flags are also keys of a config file
}

// A pageTaker is a standard output that takes the help as it is in place of its text.
type pageTaker interface{ takePage(Page) }

// Show writes the page to the standard output of a command that was asked for help.
func (p Page) Show(w io.Writer) {
	if taker, ok := w.(pageTaker); ok {
		taker.takePage(p)
		return
	}
	if p.Long != "" {
		fmt.Fprintf(w, "%s\n\n", p.Long)
	}
	fmt.Fprintf(w, "Usage:\n  %s", p.Name)
	switch {
	case len(p.Commands) > 0:
		fmt.Fprintf(w, " [flags]\n  %s [command]\n\nCommands:\n", p.Name)
		for _, s := range p.Commands {
			fmt.Fprintf(w, "  %-10s %s\n", s.Name, s.Help)
		}
		fmt.Fprintf(w, "\nFlags:\n")
	case len(p.Flags)+len(p.Server) == 0:
		fmt.Fprintln(w, strings.TrimRight(" "+p.Argument, " "))
		return
	default:
		fmt.Fprintf(w, "%s\n\nFlags:\n", strings.TrimRight(" [flags] "+p.Argument, " "))
	}
	printFlags(w, p.Flags)
	if len(p.Flags) > 0 && len(p.Server) > 0 {
		fmt.Fprintf(w, "\nFlags of the server, for working without one:\n")
	}
	printFlags(w, p.Server)
	if said := p.sources(); said != "" {
		fmt.Fprintf(w, "\n%s\n", said)
	}
}

// sources says where the values of the flags come from besides the command line.
func (p Page) sources() string {
	all := append(p.Flags[:len(p.Flags):len(p.Flags)], p.Server...)
	if p.Env == "" || len(all) == 0 {
		return ""
	}
	name := cmp.Or(p.Example, all[0].Long)
	variable := EnvironmentName(p.Env, name)
	if !p.File {
		return fmt.Sprintf("Every flag is also an environment variable: --%s is %s. Flags win.", name, variable)
	}
	return fmt.Sprintf("Every flag is also a key of the JSON config file and an environment variable:\n"+
		"--%s is %q and %s. Flags win over the\nenvironment, the environment over the file.", name, name, variable)
}

// printFlags writes a table of flags.
func printFlags(w io.Writer, all []Option) {
	left := make([]string, len(all))
	width := 0
	for i, o := range all {
		left[i] = "      --" + o.Long
		if o.Short != "" {
			left[i] = "  -" + o.Short + ", --" + o.Long
		}
		if o.Kind != "" {
			left[i] += " " + o.Kind
		}
		width = max(width, len(left[i]))
	}
	for i, o := range all {
		fmt.Fprintf(w, "%-*s   %s%s\n", width, left[i], o.Help, o.defaultText())
	}
}

// defaultText returns the default of a flag, for the end of its help.
func (o Option) defaultText() string {
	switch {
	case o.Default == "" || (o.Kind == "" && o.Default == "false"):
		return ""
	case o.Kind == "string":
		return fmt.Sprintf(" (default %q)", o.Default)
	}
	return fmt.Sprintf(" (default %s)", o.Default)
}

// help shows the help of the command.
func (c *Command) help() {
	var own []Option
	file := false
	c.VisitAll(func(f *flag.Flag) {
		for _, o := range c.borrowed {
			if o.Long == f.Name {
				return
			}
		}
		kind, help := flag.UnquoteUsage(f)
		own = append(own, Option{Long: f.Name, Kind: kind, Default: f.DefValue, Help: help})
		file = file || f.Name == "config-file"
	})
	Page{
		Name: c.Name(), Long: c.long, Argument: c.Argument, Commands: c.Commands,
		Flags: own, Server: c.borrowed, Env: c.env, Example: c.Example, File: file,
	}.Show(c.Stdout)
}
