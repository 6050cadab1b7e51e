package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// runMan is `pulse man`.
func (p *Program) runMan(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := New(p.Name+" man", fmt.Sprintf("Write the manual page %s(1), for man -l -.", p.Name), "", stdout, stderr)
	if done, code := c.Begin(args); done {
		return code
	}
	root, commands := p.pages(ctx)
	return c.Write(func(w io.Writer) error {
		_, err := io.WriteString(w, p.manual(root, commands))
		return err
	})
}

// manual returns the manual page of the program, in roff with the macros of man(7). It depends on
// nothing but the program, so that a package of it can be built again bit by bit.
func (p *Program) manual(root Page, commands []Page) string {
	var b strings.Builder
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	date, _, _ := strings.Cut(setting(info, "vcs.time"), "T")
	fmt.Fprintf(&b, ".TH %s 1 \"%s\" \"%s %s\" \"Pulse\"\n", strings.ToUpper(roff(p.Name)), date, roff(p.Name), roff(releaseOf(p.Release, info)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(p.Name), roff(p.Summary))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n[flags]\n.br\n.B %[1]s\n[command]\n", roff(p.Name))
	b.WriteString(".SH DESCRIPTION\n")
	manText(&b, cmp.Or(root.Long, p.Description))
	b.WriteString(".SH OPTIONS\n")
	manFlags(&b, root.Flags)
	if said := root.sources(); said != "" {
		b.WriteString(".PP\n")
		manText(&b, said)
	}
	b.WriteString(".SH COMMANDS\n")
	for _, c := range commands {
		fmt.Fprintf(&b, ".SS %s\n", roff(strings.TrimRight(c.Name+" "+c.Argument, " ")))
		manText(&b, c.Long)
		manFlags(&b, c.Flags)
		if len(c.Server) > 0 {
			b.WriteString(".PP\nFlags of the server, for working without one:\n")
			manFlags(&b, c.Server)
		}
		if said := c.sources(); said != "" {
			b.WriteString(".PP\n")
			manText(&b, said)
		}
	}
	fmt.Fprintf(&b, `.SH EXIT STATUS
.TP
.B %d
It did what it was asked for.
.TP
.B %d
It failed.
.TP
.B %d
The command line, the environment or the config file is wrong.
Another start would not change that.
.SH SEE ALSO
https://github.com/nanopack/pulse
`, ExitOK, ExitFailure, ExitUsage)
	return b.String()
}

// manFlags writes a list of flags.
func manFlags(b *strings.Builder, all []Option) {
	for _, o := range all {
		b.WriteString(".TP\n")
		if o.Short != "" {
			fmt.Fprintf(b, "\\fB\\-%s\\fR, ", roff(o.Short))
		}
		fmt.Fprintf(b, "\\fB\\-\\-%s\\fR", roff(o.Long))
		if o.Kind != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(o.Kind))
		}
		b.WriteString("\n" + roffLine(o.Help+o.defaultText()) + "\n")
	}
}

// manText writes text as paragraphs. A line that begins with blanks stays a line of its own.
func manText(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		begun := false // a break at the beginning of a paragraph is none
		for _, line := range strings.Split(paragraph, "\n") {
			if trimmed := strings.TrimLeft(line, " "); trimmed != line {
				if begun {
					b.WriteString(".br\n")
				}
				b.WriteString(`\ \ ` + roff(trimmed) + "\n")
			} else if line != "" {
				b.WriteString(roffLine(line) + "\n")
			}
			begun = begun || line != ""
		}
	}
}

// roff returns text with what means something to roff escaped.
func roff(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", "\\`").Replace(text)
}

// roffLine returns roff of a line of text, which must not be taken for a request.
func roffLine(text string) string {
	text = roff(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}
