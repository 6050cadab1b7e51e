package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/internal/cut"
)

// maxShownID is how much of an id the table shows: all of it, since an id is what people copy.
const maxShownID = 255

const relaysHelp = `List the relays of a running server: those that are connected, and those that were and are expected back.

  pulse relays forget ID forgets one that is gone for good.`

const forgetHelp = `Forget a relay that is gone for good. It must not be connected. It leaves GET /relays, GET /latest and the
alerts that wait for its readings (but not those that Kapacitor watches); its history stays. A relay that comes
back later is a new one.`

// runRelays lists the relays of a running server, or forgets one.
func runRelays(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "forget" {
		return runForget(ctx, args[1:], stdout, stderr)
	}
	c := newCommand("relays", relaysHelp, "PULSE", stdout, stderr)
	flags := c.clientFlags()
	asJSON := c.Bool("json", false, "Print the server's answer to GET /relays as it is")
	if done, code := c.parse(args); done {
		return code
	}
	client, err := flags.client()
	if err != nil {
		return c.misused(err)
	}
	answer, err := client.do(ctx, http.MethodGet, "/relays", nil)
	if err != nil {
		return c.unanswered(err)
	}
	if *asJSON {
		return c.write(func(w io.Writer) error { _, err := w.Write(answer); return err })
	}
	var relays []listedRelay
	if err := json.Unmarshal(answer, &relays); err != nil {
		return c.failed(fmt.Errorf("%s does not answer as pulse does: %w", client.base, err))
	}
	return c.write(func(w io.Writer) error { return printRelays(w, relays, time.Now()) })
}

// runForget is `pulse relays forget`.
func runForget(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("relays forget", forgetHelp, "PULSE", stdout, stderr)
	c.argument = "ID"
	flags := c.clientFlags()
	if done, code := c.parse(args); done {
		return code
	}
	client, err := flags.client()
	if err != nil {
		return c.misused(err)
	}
	id := c.Arg(0)
	_, err = client.do(ctx, http.MethodDelete, "/relays/"+url.PathEscape(id), nil)
	if answer, ok := errors.AsType[*apiError](err); ok && answer.status == http.StatusConflict {
		return c.failed(errors.New(answer.text))
	}
	if err != nil {
		return c.unanswered(err)
	}
	return c.write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is forgotten; its history stays\n", id)
		return err
	})
}

// unanswered says why there is no answer of use.
func (c *command) unanswered(err error) int {
	if _, answered := errors.AsType[*apiError](err); !answered {
		err = fmt.Errorf("is a server running there? %w", err)
	}
	return c.failed(err)
}

// listedRelay is what printRelays shows of a relay.
type listedRelay struct {
	ID         string     `json:"id"`
	Connected  bool       `json:"connected"`
	Address    string     `json:"address"`
	LastSeen   time.Time  `json:"last_seen"`
	Collectors []struct{} `json:"collectors"`
	Polls      uint64     `json:"polls"`
	Unanswered uint64     `json:"unanswered"`
	Rejected   uint64     `json:"rejected"`
	Replaced   uint64     `json:"replaced"`
	// ReplacedAddress is where the last one replaced came from.
	ReplacedAddress string `json:"replaced_address"`
}

// printRelays writes a line for each relay, those that are disconnected first: they are what somebody looks for.
func printRelays(w io.Writer, relays []listedRelay, now time.Time) error {
	if len(relays) == 0 {
		_, err := fmt.Fprintln(w, "no relays: start one with pulse relay --server HOST:PORT")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "RELAY\tSTATE\tLAST READING\tCOLLECTORS\tPOLLS\tUNANSWERED\tREJECTED\tADDRESS\n")
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
				last = spell(max(0, now.Sub(r.LastSeen).Seconds())) + " ago"
			}
			address := cmp.Or(r.Address, "-")
			if r.Replaced > 0 {
				address += fmt.Sprintf(" (has replaced %s, %s times)", r.ReplacedAddress, thousands(r.Replaced))
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", cut.Text(r.ID, maxShownID), state, last, len(r.Collectors),
				thousands(r.Polls), thousands(r.Unanswered), thousands(r.Rejected), address)
		}
	}
	return t.Flush()
}
