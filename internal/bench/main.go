// Command bench measures Pulse against the budgets of docs/PERFORMANCE.md. It runs the real server
// as a process and prints each figure beside its limit. It exits with 1 if a figure misses its
// limit.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A row is one figure, its limit, and whether the figure keeps the limit. If the same run measured
// the limit, ratio shows how the two compare, and how they must.
type row struct {
	what   string
	figure string
	limit  string
	ratio  string
	ok     bool
}

// A bench holds the state that the scenarios share.
type bench struct {
	relays, stats int
	poll          time.Duration
	load          time.Duration
	binary        string
	dir           string
	part          string // "": all
	hostile       string // what clients do in the part "outside"; "": all
	long          bool
	rows          []row
}

// parts returns the parts that can run by themselves, in order.
func (b *bench) parts() []part {
	return []part{
		{"codec", b.runCodec}, {"journal", b.runJournal}, {"idle", b.runIdle}, {"restart", b.runRestart},
		{"raw", b.runRaw}, {"aggregates", b.runAggregates}, {"latest", b.runLatest}, {"hourly", b.runHourly}, {"range", b.runRange}, {"live", b.runLive}, {"alerts", b.runAlerts},
		{"load", b.runLoad}, {"wide", b.runWide}, {"growth", b.runGrowth}, {"series", b.runSeries}, {"kill", b.runKill}, {"outage", b.runOutage}, {"spool", b.runSpool}, {"hub", b.runHub},
	}
}

// longParts take more than ten minutes each. They run only by name or with -long.
func (b *bench) longParts() []part { return []part{{"outside", b.runOutside}} }

func (b *bench) partNames() string {
	var names []string
	for _, p := range slices.Concat(b.parts(), b.longParts()) {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

type part struct {
	name string
	run  func(context.Context) error
}

func main() {
	b := &bench{}
	flag.IntVar(&b.relays, "relays", 10_000, "relays in the load")
	flag.IntVar(&b.stats, "stats", 10, "stats of each relay")
	flag.DurationVar(&b.poll, "poll", 5*time.Second, "poll interval, whole seconds")
	flag.DurationVar(&b.load, "for", time.Minute, "how long the load lasts")
	flag.StringVar(&b.part, "part", "", "run this part alone: "+b.partNames())
	flag.StringVar(&b.hostile, "hostile", "", "in the part outside, have clients do only this: names from hostile.go, with commas")
	flag.BoolVar(&b.long, "long", false, "the whole numbers of the budgets, and for longer")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) > 1 && (os.Args[1] == fillCommand || os.Args[1] == historyCommand) {
		f, err := parseFill(os.Args[2:])
		switch {
		case err != nil:
		case os.Args[1] == fillCommand:
			err = f.run(ctx)
		default:
			err = f.runHistory(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == hostileCommand {
		if err := runHostile(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == sinkCommand {
		if err := runSink(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if b.part != "" && !slices.ContainsFunc(slices.Concat(b.parts(), b.longParts()), func(p part) bool { return p.name == b.part }) {
		fmt.Fprintf(os.Stderr, "bench: there is no part %q\n", b.part)
		os.Exit(2)
	}
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	for _, r := range b.rows {
		if !r.ok {
			os.Exit(1)
		}
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "pulse-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.binary = filepath.Join(b.dir, "pulse")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "github.com/nanopack/pulse/cmd/pulse")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building pulse: %w", err)
	}
	fmt.Printf("load and kill: %d relays of %d stats, polled every %s; embedded InfluxDB, fsync before every acknowledgement\n\n", b.relays, b.stats, b.poll)
	parts := b.parts()
	if b.part != "" || b.long {
		parts = slices.Concat(parts, b.longParts())
	}
	for _, p := range parts {
		if b.part != "" && b.part != p.name {
			continue
		}
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	b.print()
	return nil
}

// add notes a figure and prints it at once, to show progress.
func (b *bench) add(what string, ok bool, limit, figure string, args ...any) {
	b.note(row{what, fmt.Sprintf(figure, args...), limit, "", ok})
}

// compare notes a figure beside a limit that the same run has measured. A larger ratio is better,
// and least is the lowest that is allowed.
func (b *bench) compare(what string, ratio, least float64, figure, limit string) {
	b.note(row{what, figure, limit, fmt.Sprintf("%.2f, at least %g", ratio, least), ratio >= least})
}

func (b *bench) note(r row) {
	b.rows = append(b.rows, r)
	fmt.Fprintf(os.Stderr, "· %s: %s\n", r.what, r.figure)
}

func (b *bench) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhat\tfigure\tlimit\tratio\t")
	for _, r := range b.rows {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.what, r.figure, r.limit, r.ratio, verdict)
	}
	w.Flush()
}
