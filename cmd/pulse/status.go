package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/query"
)

// runStatus prints what a running server answers to GET /status.
func runStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("status", "Show how a running server is doing.", "PULSE", stdout, stderr)
	ready := c.Bool("ready", false, "Only report by the exit code whether the server can take readings (GET /readyz), without the token")
	asJSON := jsonFlag(c, "/status")
	client, code := dial(c, args)
	switch {
	case client == nil:
		return code
	case *ready:
		client.token = "" // a wrong one does not matter
		return get(ctx, c, client, "/readyz", func([]byte) int { return command.ExitOK })
	}
	return get(ctx, c, client, "/status", func(answer []byte) int { return show(c, client, answer, *asJSON, printStatus) })
}

// printStatus writes the answer to GET /status for people, the most important first.
func printStatus(w io.Writer, s query.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "pulse %s is %s, up %s\n", cmp.Or(s.Version, "(unknown version)"), s.State, human.Seconds(s.UptimeSeconds))
	for _, reason := range s.Reasons {
		fmt.Fprintf(t, "  %s\n", reason)
	}
	j := s.Journal
	fmt.Fprintf(t, "\njournal\t%s events, %s", human.Thousands(j.Messages), human.Bytes(int64(j.Bytes)))
	if j.MaxBytes > 0 {
		fmt.Fprintf(t, " of %s", human.Bytes(j.MaxBytes))
	}
	if !j.FirstTime.IsZero() {
		fmt.Fprintf(t, ", since %s", j.FirstTime.UTC().Format(time.DateTime+"Z"))
	}
	if j.RetentionSeconds > 0 {
		fmt.Fprintf(t, ", kept for %s", human.Seconds(j.RetentionSeconds))
	}
	if j.Lost > 0 {
		fmt.Fprintf(t, ", %s lost by damage", human.Thousands(j.Lost))
	}
	if j.Error != "" {
		fmt.Fprintf(t, "; %s", j.Error)
	}
	if j.Reach.Limit != "" {
		fmt.Fprintf(t, "\n\t%s", describeReach(j.Reach, time.Duration(j.RetentionSeconds*float64(time.Second))))
	}
	if s.Influx.Reachable {
		fmt.Fprintf(t, "\ninfluxdb\t%s\n", cmp.Or(s.Influx.Version, "answers"))
	} else {
		fmt.Fprintf(t, "\ninfluxdb\tdoes not answer: %s\n", s.Influx.Error)
	}
	fmt.Fprintf(t, "relays\t%d connected, %d disconnected, %d collectors\n", s.Relays.Connected, s.Relays.Disconnected, s.Relays.Collectors)
	var uplinkGaps []link.Gap
	if s.Edges != nil {
		fmt.Fprintf(t, "edges\t%d connected, %d silent (pulse edges lists them)\n", s.Edges.Connected, s.Edges.Silent)
	}
	if s.Uplink != nil {
		printUplink(t, *s.Uplink)
		uplinkGaps = s.Uplink.Gaps
	}
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(t, "\nPROJECTION\tSTATE\tLAG\tBEHIND\tBACKLOG\tLOSS IN\tLOST\tLAST ERROR\n")
	gaps := len(j.Gaps) + len(uplinkGaps)
	for _, p := range s.Projections {
		lossIn := "-"
		if p.SecondsToLoss != nil {
			lossIn = human.Seconds(*p.SecondsToLoss)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.State, human.Thousands(p.Lag), human.Seconds(p.LagSeconds), human.Thousands(p.Backlog), lossIn,
			human.Thousands(p.Lost), cmp.Or(p.LastError, "-"))
		gaps += len(p.Gaps)
	}
	if gaps > 0 {
		fmt.Fprintf(t, "\nGAP IN\tFROM\tTO\tRECORDS\tFOUND\tREASON\n")
	}
	list := func(name string, gaps []projector.Gap) {
		for _, g := range gaps {
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\n", name, g.From, g.To, human.Thousands(g.Count), g.Time.UTC().Format(time.DateTime+"Z"), g.Reason)
		}
	}
	list("journal", j.Gaps)
	for _, g := range uplinkGaps {
		printEdgeGap(t, "hub", g)
	}
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

// printDamages writes which files of InfluxDB were damaged and what was lost.
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
