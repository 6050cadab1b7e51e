// Command peers compares Pulse with what people run instead. The same fleet of hosts goes to Pulse,
// VictoriaMetrics, Prometheus and InfluxDB, one after the other in one sitting, and the table says
// what a reading costs each server: processor time, memory, bytes written and disk. Only figures of
// one sitting compare.
//
// Each server runs as its users run it, with its defaults, and alone: what it does not do, such as
// the aggregates of Pulse, costs it nothing. Prometheus and VictoriaMetrics scrape each host over a
// connection of its own, InfluxDB gets a request from each host as Telegraf sends it, and Pulse
// polls its relays. The fleet is a process of its own, and the values are the same for all. Text
// that only costs the peers is left out: comments in what they scrape, compression, the log of
// requests.
//
// The command needs Linux, and the peers in the cache of tools/install.sh (make bench-peers).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A sitting is what is measured, and for how long.
type sitting struct {
	sizes       []size
	servers     []contender
	warm, lasts time.Duration
	long        bool
	seed        uint64
	// least and most are the share of the readings due that a server has to take: fewer cost less
	// than they should, and many more are left from the time before.
	least, most float64
	dir         string // holds the binary of Pulse and the data of the servers
	binary      string
}

// longTotal is how long each server has run when -long measures its disk.
const longTotal = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == fleetCommand {
		return playFleet(ctx, args[1:])
	}
	s, markdown, err := parse(args)
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "pulse-peers-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if slices.ContainsFunc(s.servers, func(c contender) bool { return c.ours }) {
		if err := s.build(ctx); err != nil {
			return err
		}
	}
	results, failures := s.run(ctx)
	t := newTable(s, results)
	t.print(os.Stdout, markdown)
	if t.missed {
		failures = errors.Join(failures, errors.New("a figure misses its limit"))
	}
	return failures
}

func parse(args []string) (s *sitting, markdown bool, err error) {
	s = &sitting{least: 0.98, most: 1.1}
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	sizes := flags.String("sizes", "100x10@1s,1000x10@1s,10000x10@5s", "hosts x stats of each @ interval (whole seconds), with commas")
	names := flags.String("peers", contenderNames(), "the servers, with commas")
	flags.DurationVar(&s.warm, "warm", 30*time.Second, "how long a server runs before it is measured")
	flags.DurationVar(&s.lasts, "for", 30*time.Second, "how long it is measured")
	flags.BoolVar(&s.long, "long", false, "measure each server until it has run for ten minutes, and then its disk")
	flags.Uint64Var(&s.seed, "seed", 1, "of the values")
	flags.BoolVar(&markdown, "markdown", false, "print the table as Markdown")
	if err := flags.Parse(args); err != nil {
		return nil, false, err
	}
	if s.long {
		s.lasts = longTotal - s.warm
	}
	if flags.NArg() > 0 {
		return nil, false, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.warm < 0 || s.lasts <= 0 {
		return nil, false, fmt.Errorf("-warm %s and -for %s must be positive", s.warm, s.lasts)
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		z, err := parseSize(text)
		if err != nil {
			return nil, false, err
		}
		s.sizes = append(s.sizes, z)
	}
	for name := range strings.SplitSeq(*names, ",") {
		i := slices.IndexFunc(contenders, func(c contender) bool { return c.name == name })
		if i < 0 {
			return nil, false, fmt.Errorf("there is no server %q; choose from %s", name, contenderNames())
		}
		s.servers = append(s.servers, contenders[i])
	}
	return s, markdown, nil
}

// A size is a fleet of hosts, each with some stats, which are read at an interval.
type size struct {
	hosts, stats int
	every        time.Duration
}

func (z size) String() string { return fmt.Sprintf("%d x %d every %s", z.hosts, z.stats, z.every) }

// rate returns how many readings are due each second.
func (z size) rate() float64 { return float64(z.hosts*z.stats) / z.every.Seconds() }

func parseSize(text string) (z size, err error) {
	count, every, ok := strings.Cut(text, "@")
	if ok {
		z.every, err = time.ParseDuration(every)
	}
	if n, scanned := fmt.Sscanf(count, "%dx%d", &z.hosts, &z.stats); !ok || err != nil || scanned != nil || n != 2 ||
		fmt.Sprintf("%dx%d", z.hosts, z.stats) != count || z.hosts < 1 || z.hosts > maxHosts || z.stats < 1 ||
		z.every < time.Second || z.every%time.Second != 0 {
		return z, fmt.Errorf("the size %q is not like 1000x10@1s (hosts x stats @ whole seconds)", text)
	}
	return z, nil
}

// build builds Pulse from this tree.
func (s *sitting) build(ctx context.Context, flags ...string) error {
	s.binary = filepath.Join(s.dir, "pulse")
	args := slices.Concat([]string{"build"}, flags, []string{"-o", s.binary, "github.com/nanopack/pulse/cmd/pulse"})
	c := exec.CommandContext(ctx, "go", args...)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("building pulse: %w", err)
	}
	return nil
}

// run measures every server with every size. A cell that fails does not end the sitting.
func (s *sitting) run(ctx context.Context) (results map[cell]result, failures error) {
	results = make(map[cell]result)
	for _, z := range s.sizes {
		for _, c := range s.servers {
			name := fmt.Sprintf("%s, %s", z, c.title)
			r, err := s.measure(ctx, z, c)
			if ctx.Err() != nil {
				return results, errors.Join(failures, context.Cause(ctx))
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "· %s: FAILED: %v\n", name, err)
				failures = errors.Join(failures, fmt.Errorf("%s: no figure", name))
				continue
			}
			fmt.Fprintf(os.Stderr, "· %s: %s\n", name, r)
			results[cell{z, c.name}] = r
		}
	}
	return results, failures
}
