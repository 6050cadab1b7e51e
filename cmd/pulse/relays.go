package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/human"
)

// maxShownID is how much of an id the table shows. It is all of an id, because people copy ids.
const maxShownID = 255

const relaysHelp = `List the relays of a running server: those that are connected, and those that were and are expected back.

  pulse relays forget ID forgets one that is gone for good.`

const forgetHelp = `Forget a relay that is gone for good. It must not be connected. It leaves GET /relays, GET /latest and the
alerts that wait for its readings (but not those that Kapacitor watches); its history stays. A relay that comes
back later is a new one.`

// runRelays lists the relays of a running server, or forgets one.
func runRelays(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if rest, ok := command.CutVerb(args, "forget"); ok {
		c := newCommand("relays forget", forgetHelp, "PULSE", stdout, stderr)
		c.Argument = "ID"
		return runDelete(ctx, c, rest, "/relays/", "%s is forgotten; its history stays")
	}
	c := newCommand("relays", relaysHelp, "PULSE", stdout, stderr)
	c.Verb = "forget"
	return runShow(ctx, c, args, "/relays", func(w io.Writer, relays []ingest.Relay) error { return printRelays(w, relays, time.Now()) })
}

// printRelays writes a line for each relay. Disconnected relays come first, because people look for
// those.
func printRelays(w io.Writer, relays []ingest.Relay, now time.Time) error {
	if len(relays) == 0 {
		_, err := fmt.Fprintln(w, "no relays: start one with pulse relay --server HOST:PORT")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "RELAY\tSTATE\tLAST READING\tCOLLECTORS\tPOLLS\tUNANSWERED\tREJECTED\tSPOOL\tADDRESS\n")
	for _, connected := range []bool{false, true} {
		for _, r := range relays {
			if r.Connected != connected {
				continue
			}
			state, last := "disconnected", "-"
			if connected {
				state = "connected"
			}
			if !r.LastSeen.IsZero() {
				last = human.Seconds(max(0, now.Sub(r.LastSeen).Seconds())) + " ago"
			}
			address := cmp.Or(r.RemoteAddr, "-")
			if r.Replaced > 0 {
				address += fmt.Sprintf(" (has replaced %s, %s times)", r.ReplacedAddr, human.Thousands(r.Replaced))
			}
			spool := "-"
			if r.Spool != nil {
				spool = human.Thousands(r.Spool.Waiting) + " wait"
				if r.Spool.Dropped > 0 {
					spool += ", dropped " + human.Thousands(r.Spool.Dropped) + " readings"
				}
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", cut.Text(r.ID, maxShownID), state, last, len(r.Collectors),
				human.Thousands(r.Polls), human.Thousands(r.Unanswered), human.Thousands(r.Rejected), spool, address)
		}
	}
	return t.Flush()
}
