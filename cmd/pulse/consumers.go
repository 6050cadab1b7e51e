package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/journal/outside"
)

const consumersHelp = `List the consumers of a running server: the places that NATS clients keep in its journal.

  pulse consumers delete NAME deletes one.`

const deleteConsumerHelp = `Delete a consumer. The program that uses it loses its place in the journal: it makes another, and begins where it asks to.`

// runConsumers lists the consumers of NATS clients, or deletes one.
func runConsumers(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if rest, ok := command.CutVerb(args, "delete"); ok {
		c := newCommand("consumers delete", deleteConsumerHelp, "PULSE", stdout, stderr)
		c.Argument = "NAME"
		return runDelete(ctx, c, rest, "/consumers/", "the consumer %s is deleted")
	}
	c := newCommand("consumers", consumersHelp, "PULSE", stdout, stderr)
	c.Verb = "delete"
	return runShow(ctx, c, args, "/consumers", func(w io.Writer, list []outside.Consumer) error { return printConsumers(w, list, time.Now()) })
}

// printConsumers writes a line for each consumer.
func printConsumers(w io.Writer, list []outside.Consumer, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no consumers: NATS clients make them, see docs/SUBSCRIBE.md")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "CONSUMER\tKIND\tLAST USED\tUNREAD\tUNACKNOWLEDGED\tACK WAIT\tWAITING\tGOES AFTER\tREADS\n")
	for _, c := range list {
		kind, reads, unacknowledged, wait := "ephemeral", strings.Join(c.Filters, " "), "-", "-"
		if c.Durable {
			kind = "durable"
		}
		if reads == "" {
			reads = "everything"
		}
		if c.MaxAckPending > 0 {
			unacknowledged = fmt.Sprintf("%d of %d", c.AckPending, c.MaxAckPending)
			wait = time.Duration(c.AckWait).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s ago\t%s\t%s\t%s\t%d\t%s\t%s\n", c.Name, kind, human.Seconds(max(0, now.Sub(c.LastUsed).Seconds())), human.Thousands(c.Unread),
			unacknowledged, wait, c.Waiting, human.Seconds(time.Duration(c.InactiveThreshold).Seconds()), reads)
	}
	return t.Flush()
}
