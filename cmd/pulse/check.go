package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

const checkHelp = `Compare the files of a data dir with what was written, while no server runs on it, and change
nothing. Exits with 0 when all is whole, 1 when something is not: then the next start sets
that aside, keeps what is intact, and writes InfluxDB's again from the journal, as far as
the journal has it.`

// runCheck verifies a data dir.
func runCheck(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("check", checkHelp, "PULSE", stdout, stderr)
	takes(c, "config-file", "data-dir")
	if done, code := c.Begin(args); done {
		return code
	}
	config, err := serverConfig(c)
	if err != nil {
		return c.Misused(err)
	}
	report, err := checkDataDir(config.DataDir)
	if err != nil {
		return c.Failed(err)
	}
	if code := c.Write(func(w io.Writer) error { return printCheck(w, config.DataDir, report) }); code != command.ExitOK {
		return code
	}
	if report.damaged() {
		return command.ExitFailure
	}
	return command.ExitOK
}

// checkReport is what a check found.
type checkReport struct {
	state   []migrations.Damage
	journal journal.CheckReport
	influx  embedded.Report
}

func (r checkReport) damaged() bool {
	return len(r.state)+len(r.journal.Damages)+len(r.influx.Damages) > 0
}

// checkDataDir reads everything that can be verified in a data dir.
func checkDataDir(dir string) (r checkReport, err error) {
	if r.state, err = migrations.Check(dir); err != nil {
		return r, fmt.Errorf("--data-dir: %w", err)
	}
	if r.journal, err = journal.Check(filepath.Join(dir, "journal")); err != nil {
		return r, fmt.Errorf("--data-dir: %w", err)
	}
	r.influx, err = embedded.Check(filepath.Join(dir, "influx"))
	return r, err
}

// blockDamage describes what is wrong with a block of the journal.
func blockDamage(d journal.BlockDamage) string {
	switch {
	case d.Err != nil:
		return d.Err.Error()
	case d.From > 0 && d.To > 0:
		return fmt.Sprintf("events %d to %d are not what was written", d.From, d.To)
	case d.To > 0:
		return fmt.Sprintf("its events up to %d are not what was written", d.To)
	case d.From > 0:
		return fmt.Sprintf("what follows from event %d on is not what was written", d.From)
	}
	return "it is not what was written"
}

func printCheck(w io.Writer, dir string, r checkReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	state := "whole"
	if len(r.state) > 0 {
		state = "damaged"
	}
	fmt.Fprintf(t, "%s\t%s\n", filepath.Join(dir, migrations.FileName), state)
	for _, d := range r.state {
		fmt.Fprintf(t, "  %s\tit is not what was written: %s\n", d.What, d.Effect)
	}
	at := filepath.Join(dir, "journal")
	switch {
	case len(r.journal.Damages) > 0:
		fmt.Fprintf(t, "%s\tdamaged\n", at)
	case r.journal.Blocks == 0:
		fmt.Fprintf(t, "%s\tempty\n", at)
	default:
		fmt.Fprintf(t, "%s\twhole: %s of events, %s\n", at, human.Several(r.journal.Blocks, "block"), human.Bytes(r.journal.Bytes))
	}
	for _, d := range r.journal.Damages {
		fmt.Fprintf(t, "  %s\t%s\n", d.Block, blockDamage(d))
	}
	at = filepath.Join(dir, "influx")
	switch {
	case len(r.influx.Damages) > 0:
		fmt.Fprintf(t, "%s\tdamaged\n", at)
	case r.influx.Files+r.influx.Logs == 0:
		fmt.Fprintf(t, "%s\tempty: with --influx-address embedded the next start writes it again from the journal\n", at)
	default:
		var there []string
		if n := r.influx.Files; n > 0 {
			there = append(there, fmt.Sprintf("%s of points, %s", human.Several(n, "file"), human.Bytes(r.influx.Bytes)))
		}
		if n := r.influx.Logs; n > 0 {
			there = append(there, fmt.Sprintf("%s of an earlier release, %s", human.Several(n, "log file"), human.Bytes(r.influx.LogBytes)))
		}
		fmt.Fprintf(t, "%s\twhole: %s\n", at, strings.Join(there, "; "))
	}
	for _, d := range r.influx.Damages {
		fmt.Fprintf(t, "  %s\t%s", d.What, d.Why)
		if d.Policy != "" {
			fmt.Fprintf(t, ": %s from %s to %s", replayOf(d.Policy), d.From.Format(time.DateTime+"Z"), d.To.Format(time.DateTime+"Z"))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
