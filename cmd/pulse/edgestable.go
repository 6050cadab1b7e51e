package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/journal/link"
)

const edgesHelp = `List the edges of a running hub: which have a link, since when, how many events the hub has of each, how many
it lacks, and the gaps that it will never get. An edge's own end of the link is in pulse status.`

// edgesAnswer is the answer to GET /edges.
type edgesAnswer struct {
	Edges   []link.Edge
	Refused []link.UnknownEdge
}

// edgeStates are the states of an edge in the order of the table: people look for those without a link.
var edgeStates = []string{"silent", "never", "connected", "off"}

// runEdges lists the edges of a running hub.
func runEdges(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("edges", edgesHelp, "PULSE", stdout, stderr)
	return runShow(ctx, c, args, "/edges", func(w io.Writer, answer edgesAnswer) error { return printEdges(w, answer, time.Now()) })
}

// printEdges writes a line for each edge, and what was wrong with them.
func printEdges(w io.Writer, answer edgesAnswer, now time.Time) error {
	if len(answer.Edges)+len(answer.Refused) == 0 {
		_, err := fmt.Fprintln(w, "no edges: give each a name and a token with --edges")
		return err
	}
	edges := slices.Clone(answer.Edges)
	slices.SortStableFunc(edges, func(a, b link.Edge) int {
		return cmp.Compare(slices.Index(edgeStates, a.State), slices.Index(edgeStates, b.State))
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "EDGE\tSTATE\tSINCE\tHAS\tLACKS\tGAPS\tCLOCK\tRELEASE\tADDRESS\n")
	for _, e := range edges {
		since, lacks, gaps, clock := "-", human.Thousands(e.Lacks), "-", "-"
		if !e.Since.IsZero() {
			since = human.Seconds(max(0, now.Sub(e.Since).Seconds()))
		}
		switch e.State {
		case "connected":
			clock = fmt.Sprintf("%+.1fs", math.Round(10*e.ClockOffset)/10+0) // + 0: no -0.0
		case "never":
			lacks = "-"
		default:
			lacks += " or more" // how long its journal is by now it cannot say
		}
		if n := missing(e.Gaps); n > 0 {
			gaps = human.Thousands(n) + " events"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Name, e.State, since, human.Thousands(e.Has), lacks, gaps, clock,
			cmp.Or(cut.Text(e.Release, maxSaid), "-"), cmp.Or(e.Address, "-"))
	}
	printEdgeTroubles(t, edges, answer.Refused)
	return t.Flush()
}

// printEdgeTroubles writes what was wrong with edges, and who was refused.
func printEdgeTroubles(w io.Writer, edges []link.Edge, unknown []link.UnknownEdge) {
	head := func(said *bool, columns string) {
		if !*said {
			fmt.Fprintf(w, "\n%s\n", columns)
		}
		*said = true
	}
	var gaps, begun, notices, refused bool
	for _, e := range edges {
		for _, g := range e.Gaps {
			head(&gaps, "GAP OF\tFROM\tTO\tEVENTS\tFOUND\tREASON")
			printEdgeGap(w, e.Name, g)
		}
	}
	for _, e := range edges {
		for _, b := range e.Begun {
			head(&begun, "BEGUN AGAIN\tAT\tKEPT UP TO\tFOUND\tREASON")
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", e.Name, b.At, b.Kept, b.Time.UTC().Format(time.DateTime+"Z"), cut.Text(b.Reason, maxSaid))
		}
	}
	for _, e := range edges {
		if e.Notice != "" {
			head(&notices, "EDGE\tNOTICE")
			fmt.Fprintf(w, "%s\t%s\n", e.Name, cut.Text(e.Notice, maxSaid))
		}
	}
	refusal := func(name string, at time.Time, address, reason string) {
		head(&refused, "REFUSED\tAT\tFROM\tREASON")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", cut.Text(name, maxShownID), at.UTC().Format(time.DateTime+"Z"), address, cut.Text(reason, maxSaid))
	}
	for _, e := range edges {
		if r := e.Refused; r != nil {
			refusal(e.Name, r.Time, r.Address, r.Reason)
		}
	}
	for _, u := range unknown {
		refusal(u.Name, u.Time, u.Address, u.Reason)
	}
}

// printEdgeGap writes a gap in what a hub has of an edge, for a table with the columns of gaps.
func printEdgeGap(w io.Writer, of string, g link.Gap) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", of, g.From, g.To, human.Thousands(g.Events), g.Time.UTC().Format(time.DateTime+"Z"), cut.Text(g.Reason, maxSaid))
}

// missing returns how many events are in gaps.
func missing(gaps []link.Gap) (n uint64) {
	for _, g := range gaps {
		n += g.Events
	}
	return n
}

// printUplink writes an edge's end of its link, for pulse status.
func printUplink(w io.Writer, s link.UplinkStatus) {
	state := s.State
	if s.State == "connecting" {
		state = "not connected"
	}
	fmt.Fprintf(w, "hub\t%s as %s: %s", s.Hub, s.Edge, state)
	if !s.Since.IsZero() {
		fmt.Fprintf(w, " since %s", s.Since.UTC().Format(time.DateTime+"Z"))
	}
	switch {
	case !s.Known:
		fmt.Fprint(w, ", what it has is not known: there was no link since this start")
	case s.Lacks == 0:
		fmt.Fprintf(w, ", it has all events up to number %s", human.Thousands(s.HubHas))
	default:
		fmt.Fprintf(w, ", it has the events up to number %s and lacks those up to number %s", human.Thousands(s.HubHas), human.Thousands(s.Last))
	}
	if n := missing(s.Gaps); n > 0 {
		fmt.Fprintf(w, ", %s events it will never get", human.Thousands(n))
	}
	fmt.Fprintln(w)
	for _, text := range []string{s.Error, s.Notice} {
		if text != "" {
			fmt.Fprintf(w, "\t%s\n", cut.Text(text, maxSaid))
		}
	}
}
