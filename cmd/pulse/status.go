package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/query"
)

// runStatus prints what a running server answers to GET /status.
func runStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("status", "Show how a running server is doing.", "PULSE", stdout, stderr)
	return runShow(ctx, c, args, "/status", printStatus)
}

// write lets print write to standard output. A full disk behind it is a failure;
// a reader that has seen enough, such as head, is none.
func (c *command) write(print func(io.Writer) error) int {
	if err := print(c.stdout); err != nil && !errors.Is(err, syscall.EPIPE) {
		return c.failed(err)
	}
	return exitOK
}

// printStatus writes what somebody wants to know first, first.
func printStatus(w io.Writer, s query.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "pulse %s is %s, up %s\n", cmp.Or(s.Version, "(unknown version)"), s.State, spell(s.UptimeSeconds))
	for _, reason := range s.Reasons {
		fmt.Fprintf(t, "  %s\n", reason)
	}
	j := s.Journal
	fmt.Fprintf(t, "\njournal\t%s events, %s", thousands(j.Messages), size(j.Bytes))
	if j.MaxBytes > 0 {
		fmt.Fprintf(t, " of %s", size(j.MaxBytes))
	}
	if !j.FirstTime.IsZero() {
		fmt.Fprintf(t, ", since %s", j.FirstTime.UTC().Format(time.DateTime+"Z"))
	}
	if j.RetentionSeconds > 0 {
		fmt.Fprintf(t, ", kept for %s", spell(j.RetentionSeconds))
	}
	if j.Lost > 0 {
		fmt.Fprintf(t, ", %s lost by damage", thousands(j.Lost))
	}
	if j.Error != "" {
		fmt.Fprintf(t, "; %s", j.Error)
	}
	if s.Influx.Reachable {
		fmt.Fprintf(t, "\ninfluxdb\t%s\n", cmp.Or(s.Influx.Version, "answers"))
	} else {
		fmt.Fprintf(t, "\ninfluxdb\tdoes not answer: %s\n", s.Influx.Error)
	}
	fmt.Fprintf(t, "relays\t%d connected, %d disconnected, %d collectors\n", s.Relays.Connected, s.Relays.Disconnected, s.Relays.Collectors)
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(t, "\nPROJECTION\tSTATE\tLAG\tBEHIND\tBACKLOG\tLOSS IN\tLOST\tLAST ERROR\n")
	gaps := len(j.Gaps)
	for _, p := range s.Projections {
		lossIn := "-"
		if p.SecondsToLoss != nil {
			lossIn = spell(*p.SecondsToLoss)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.State, thousands(p.Lag), spell(p.LagSeconds), thousands(p.Backlog), lossIn,
			thousands(p.Lost), cmp.Or(p.LastError, "-"))
		gaps += len(p.Gaps)
	}
	if gaps > 0 {
		fmt.Fprintf(t, "\nGAP IN\tFROM\tTO\tRECORDS\tFOUND\tREASON\n")
	}
	list := func(name string, gaps []query.Gap) {
		for _, g := range gaps {
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\n", name, g.From, g.To, thousands(g.Count), g.Time.UTC().Format(time.DateTime+"Z"), g.Reason)
		}
	}
	list("journal", j.Gaps)
	for _, p := range s.Projections {
		list(p.Name, p.Gaps)
	}
	printDamages(t, s.Influx.Damages)
	if len(s.StateFile) > 0 {
		fmt.Fprintf(t, "\nDAMAGED IN PULSE.DB\tFOUND\tEFFECT\n")
	}
	for _, d := range s.StateFile {
		fmt.Fprintf(t, "%s\t%s\t%s\n", d.What, d.Found.UTC().Format(time.DateTime+"Z"), d.Effect)
	}
	return t.Flush()
}

// printDamages writes which files of InfluxDB were damaged, and what became of it.
func printDamages(w io.Writer, damages []query.Damage) {
	if len(damages) == 0 {
		return
	}
	const layout = time.DateTime + "Z"
	fmt.Fprintf(w, "\nDAMAGED IN INFLUX\tWHY\tFOUND\tREADINGS FROM\tTO\tREPLAY\tLOST FROM\tTO\n")
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format(layout)
	}
	for _, d := range damages {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.What, d.Why, at(d.Found), at(d.From), at(d.To), cmp.Or(d.Replay, "-"), at(d.LostFrom), at(d.LostTo))
	}
}

// thousands is a number with its thousands set apart: 1,234,567.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is a number of bytes to three digits: 1.23 GB.
func size(bytes int64) string {
	n, unit := float64(bytes), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if n < 999.5 {
			break
		}
		n, unit = n/1000, larger
	}
	return strconv.FormatFloat(n, 'g', 3, 64) + " " + unit
}

// spell is a number of seconds with its two largest units: 4s, 1m30s, 9h54m,
// 6d3h.
func spell(seconds float64) string {
	if seconds > 1e9 {
		return "years"
	}
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	units := []struct {
		is   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, unit := range units[:3] {
		if d < unit.is {
			continue
		}
		text := fmt.Sprint(int64(d/unit.is), unit.name)
		if rest := d % unit.is / units[i+1].is; rest > 0 {
			text += fmt.Sprint(int64(rest), units[i+1].name)
		}
		return text
	}
	return fmt.Sprint(int64(d/time.Second), "s")
}
