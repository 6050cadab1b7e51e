package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// usage writes the help text of the server.
func usage(w io.Writer) {
	fmt.Fprintf(w, "Usage:\n  pulse [flags]\n  pulse [command]\n\nCommands:\n")
	for _, s := range subcommands() {
		fmt.Fprintf(w, "  %-9s %s\n", s.name, s.help)
	}
	fmt.Fprintf(w, "\nFlags:\n")
	printFlags(w, options())
	fmt.Fprintf(w, "\nEvery flag is also a key of the JSON config file and an environment variable:\n--poll-interval is \"poll-interval\" and PULSE_POLL_INTERVAL. Flags win over the\nenvironment, the environment over the file.\n")
}

// printFlags writes a table of flags.
func printFlags(w io.Writer, all []option) {
	left := make([]string, len(all))
	width := 0
	for i, o := range all {
		left[i] = "      --" + o.long
		if o.short != "" {
			left[i] = "  -" + o.short + ", --" + o.long
		}
		if o.kind != "" {
			left[i] += " " + o.kind
		}
		width = max(width, len(left[i]))
	}
	for i, o := range all {
		fmt.Fprintf(w, "%-*s   %s", width, left[i], o.help)
		switch {
		case o.def == "" || (o.kind == "" && o.def == "false"):
		case o.kind == "string":
			fmt.Fprintf(w, " (default %q)", o.def)
		default:
			fmt.Fprintf(w, " (default %s)", o.def)
		}
		fmt.Fprintln(w)
	}
}

// runHelp is `pulse help [command]`.
func runHelp(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("help", "", "", stdout, stderr)
	switch {
	case len(args) == 2 && slices.Contains([]string{"relays", "consumers", "alert"}, args[0]): // which have verbs
	case len(args) > 1:
		return c.misused(fmt.Errorf("unexpected argument %q: pulse help takes one command", args[1]))
	case len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help":
		usage(stdout)
		return exitOK
	case strings.HasPrefix(args[0], "-"):
		return c.misused(fmt.Errorf("unknown flag %s", args[0]))
	}
	return run(ctx, append(slices.Clone(args), "-h"), stdout, stderr)
}

// runVersion is `pulse version`.
func runVersion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("version", "Print version info.", "", stdout, stderr)
	if done, code := c.parse(args); done {
		return code
	}
	fmt.Fprintln(stdout, "pulse", version())
	return exitOK
}

// help writes the help text.
func (c *command) help() {
	var own []option
	c.VisitAll(func(f *flag.Flag) {
		for _, o := range c.server {
			if o.long == f.Name {
				return
			}
		}
		kind, help := flag.UnquoteUsage(f)
		own = append(own, option{long: f.Name, kind: kind, def: f.DefValue, help: help})
	})
	fmt.Fprintf(c.stdout, "%s\n\nUsage:\n  pulse %s", c.long, c.name)
	if len(own)+len(c.server) == 0 {
		fmt.Fprintln(c.stdout)
		return
	}
	fmt.Fprintf(c.stdout, "%s\n\nFlags:\n", strings.TrimRight(" [flags] "+c.argument, " "))
	switch {
	case len(own) == 0:
		own = c.server
		printFlags(c.stdout, own)
	case len(c.server) > 0:
		printFlags(c.stdout, own)
		fmt.Fprintf(c.stdout, "\nFlags of the server, for working without one:\n")
		printFlags(c.stdout, c.server)
	default:
		printFlags(c.stdout, own)
	}
	if c.env != "" {
		name := own[0].long
		fmt.Fprintf(c.stdout, "\nEvery flag is also an environment variable: --%s is %s. Flags win.\n",
			name, environmentName(c.env, name))
	}
}
