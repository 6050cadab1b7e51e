package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/query"
)

const consumersHelp = `List the consumers of a running server: the places that NATS clients keep in its journal.

  pulse consumers delete NAME deletes one.`

const deleteConsumerHelp = `Delete a consumer. The program that uses it loses its place in the journal: it makes another, and begins where it asks to.`

// runConsumers lists the consumers of NATS clients, or deletes one.
func runConsumers(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "delete" {
		return runDeleteConsumer(ctx, args[1:], stdout, stderr)
	}
	c := newCommand("consumers", consumersHelp, "PULSE", stdout, stderr)
	flags := c.clientFlags()
	asJSON := c.Bool("json", false, "Print the server's answer to GET /consumers as it is")
	if done, code := c.parse(args); done {
		return code
	}
	client, err := flags.client()
	if err != nil {
		return c.misused(err)
	}
	answer, err := client.do(ctx, http.MethodGet, "/consumers", nil)
	if err != nil {
		return c.unanswered(err)
	}
	if *asJSON {
		return c.write(func(w io.Writer) error { _, err := w.Write(answer); return err })
	}
	var list []query.Consumer
	if err := json.Unmarshal(answer, &list); err != nil {
		return c.failed(fmt.Errorf("%s does not answer as pulse does: %w", client.base, err))
	}
	return c.write(func(w io.Writer) error { return printConsumers(w, list, time.Now()) })
}

// runDeleteConsumer is `pulse consumers delete`.
func runDeleteConsumer(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("consumers delete", deleteConsumerHelp, "PULSE", stdout, stderr)
	c.argument = "NAME"
	flags := c.clientFlags()
	if done, code := c.parse(args); done {
		return code
	}
	client, err := flags.client()
	if err != nil {
		return c.misused(err)
	}
	name := c.Arg(0)
	_, err = client.do(ctx, http.MethodDelete, "/consumers/"+url.PathEscape(name), nil)
	if answer, ok := errors.AsType[*apiError](err); ok && answer.status == http.StatusNotFound && answer.text != "" {
		return c.failed(fmt.Errorf("%q: %s", name, answer.text))
	}
	if err != nil {
		return c.unanswered(err)
	}
	return c.write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "the consumer %s is deleted\n", name)
		return err
	})
}

// printConsumers writes a line for each consumer.
func printConsumers(w io.Writer, list []query.Consumer, now time.Time) error {
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
			wait = c.AckWait.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s ago\t%s\t%s\t%s\t%d\t%s\t%s\n", c.Name, kind, spell(max(0, now.Sub(c.LastUsed).Seconds())), thousands(c.Unread),
			unacknowledged, wait, c.Waiting, spell(c.InactiveThreshold.Seconds()), reads)
	}
	return t.Flush()
}
