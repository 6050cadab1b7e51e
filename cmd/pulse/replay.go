package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/query"
)

// runReplay has a running server rebuild a range of the views from the journal. Where no server
// answers and the data dir is given, it rebuilds the range itself.
func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return replayCommand{
		poll: 500 * time.Millisecond, patience: time.Minute, lineEvery: 10 * time.Second, now: time.Now,
		terminal: isTerminal(stderr), offline: replayOffline,
	}.run(ctx, args, stdout, stderr)
}

// replayCommand is `pulse replay`, with the parts that tests replace.
type replayCommand struct {
	poll      time.Duration // between two looks at a replay
	patience  time.Duration // how long a server may be away before it is given up
	lineEvery time.Duration // between two lines of progress, if stderr is no terminal
	terminal  bool          // stderr is one
	now       func() time.Time

	// offline replays without a server. It returns what became of
	// the replay, ended, also when ctx ended it (canceled), or why there was none. It calls
	// progress now and then, never after it returned.
	offline func(ctx context.Context, config *Config, request past.Request, progress func(past.Job), log *slog.Logger) (past.Job, error)
}

const replayHelp = `Rebuild what InfluxDB holds of a range of time from the journal, behind live traffic:
after rows were deleted, or readings refused. Twice does no harm. --from and --to take
90m, 1d, 2026-11-20 or yesterday (its midnight), "2026-11-20 14:00", 2026-11-20T14:00:00Z;
without a zone they are of this host's zone (TZ). Exits with 0 when all is done,
1 when it failed or was canceled, 78 when the command line is wrong. ^C cancels it.`

func (r replayCommand) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	line := &progressLine{w: stderr, terminal: r.terminal, every: r.lineEvery, now: r.now}
	c := newCommand("replay", replayHelp, "PULSE", stdout, line)
	flags := clientFlagsOf(c)
	var (
		projection = c.String("projection", "all", "What to rebuild: raw, aggregates or all")
		from       = c.String("from", "", "Where it begins: a time or date, or how far back, like 90m or 1d (required)")
		to         = c.String("to", "", "Where it ends, in the same way, not included; now when left out")
		edge       = c.String("edge", "", "At a hub: the edge whose readings alone are rebuilt; all when left out")
		dryRun     = c.Bool("dry-run", false, "Count only, change nothing")
		detach     = c.Bool("detach", false, "Print the replay's id and return: the server goes on")
	)
	takes(c, "aggregate-interval", "config-file", "data-dir", "influx-address", "journal-max-bytes", "journal-retention",
		"journal-sync", "log-level", "raw-retention", "retention")
	if done, code := c.Begin(args); done {
		return code
	}
	request, order, err := requestOf(*projection, *from, *to, *dryRun, r.now(), c.Location)
	if err != nil {
		return c.Misused(err)
	}
	request.Edge, order.Edge = *edge, *edge
	var config *Config // of a replay without a server
	if c.Given("data-dir") || c.Given("config-file") {
		if config, err = serverConfig(c); err != nil {
			return c.Misused(err)
		}
		if !c.Given("token") {
			*flags.token = config.Token
		}
	}
	client, err := flags.client()
	if err != nil {
		return c.Misused(err)
	}
	w := &replayWatch{replayCommand: r, command: c, client: client, line: line}

	// ^C must not leave a replay that nobody knows of.
	var job past.Job
	err = client.ask(context.WithoutCancel(ctx), http.MethodPost, "/replay", order, &job)
	answer, answered := errors.AsType[*apiError](err)
	switch {
	case err == nil && *detach:
		return c.Write(func(w io.Writer) error { _, err := fmt.Fprintln(w, job.ID); return err })
	case err == nil:
		job, err = w.watch(ctx, job)
	case answered && answer.status == http.StatusBadRequest:
		return c.Misused(errors.New(answer.text))
	case answered && answer.status == http.StatusNotFound && *edge != "":
		return c.Failed(errors.New(answer.text))
	case answered && answer.status == http.StatusNotFound:
		return c.Failed(fmt.Errorf("%s has no replays: is it an older pulse?", client.base))
	case !noServer(err):
		return c.Failed(err)
	case config == nil:
		return c.Failed(fmt.Errorf("no server answers at %s; to replay without one, give its --data-dir, and --influx-address or --config-file as it has them", client.base))
	case *detach:
		return c.Misused(fmt.Errorf("--detach needs a server, and none answers at %s", client.base))
	default:
		job, err = w.offline(ctx, config, request)
	}
	line.end()
	if err != nil {
		return c.Failed(err)
	}
	if code := c.Write(func(w io.Writer) error { return printReplay(w, job, c.Location) }); code != command.ExitOK {
		return code
	}
	switch {
	case job.State == past.StateDone:
		return command.ExitOK
	case job.State == past.StateFailed:
		return c.Failed(fmt.Errorf("it failed: %s", job.LastError))
	default:
		return c.Failed(errors.New("it was canceled: what was written until then stays"))
	}
}

// replayOrder is the body of POST /replay. The server judges by its own clock how far back a time
// is. A date is one in the time zone of this host, not of the server's.
type replayOrder struct {
	Projection string `json:"projection"`
	From       string `json:"from"`
	To         string `json:"to,omitempty"`
	Edge       string `json:"edge,omitempty"`
	DryRun     bool   `json:"dry_run"`
}

// requestOf checks the flags as far as that is possible without a server.
func requestOf(projection, from, to string, dryRun bool, now time.Time, local *time.Location) (q past.Request, order replayOrder, err error) {
	q = past.Request{Projections: []string{projection}, DryRun: dryRun}
	order = replayOrder{Projection: projection, DryRun: dryRun}
	switch projection {
	case "raw", "aggregates", "all":
	default:
		return q, order, fmt.Errorf("--projection: must be raw, aggregates or all, not %q", projection)
	}
	if from == "" {
		return q, order, errors.New("--from is required: a time or date like 2026-11-20 or yesterday, or how far back, like 90m or 1d")
	}
	if q.From, order.From, err = when("from", from, now, local); err != nil || to == "" {
		return q, order, err
	}
	if q.To, order.To, err = when("to", to, now, local); err == nil && !q.From.Before(q.To) {
		err = fmt.Errorf("--from must be before --to, and %s is not before %s", q.From.In(local).Format(time.RFC3339), q.To.In(local).Format(time.RFC3339))
	}
	return q, order, err
}

// when reads --from or --to and returns it in a form that every server understands.
func when(flag, text string, now time.Time, local *time.Location) (t time.Time, sent string, err error) {
	t, ago, err := query.ParseWhen(text, now, local)
	switch {
	case err != nil:
		return t, "", fmt.Errorf("--%s %q: %w", flag, text, err)
	case !ago:
		return t, t.Format(time.RFC3339Nano), nil
	case strings.EqualFold(text, "now"):
		return t, "0", nil
	}
	return t, strings.TrimSuffix(text, " ago"), nil
}

// replayWatch follows one replay to its end.
type replayWatch struct {
	replayCommand
	command *command.Command
	client  *apiClient
	line    *progressLine
}

// watch asks the server for the progress of a replay until the replay has ended. The server may be
// away for a while, because a replay goes on after a restart. When ctx ends, watch cancels the
// replay. It returns an error if it does not know how the replay ended.
func (w *replayWatch) watch(ctx context.Context, job past.Job) (past.Job, error) {
	path := "/replay/" + url.PathEscape(job.ID)
	tick := time.NewTicker(w.poll)
	defer tick.Stop()
	heard, lost := w.now(), false
	for !job.Ended() {
		w.line.show(job)
		select {
		case <-ctx.Done():
			return w.cancel(path, job)
		case <-tick.C:
		}
		var next past.Job
		err := w.client.ask(ctx, http.MethodGet, path, nil, &next)
		answer, answered := errors.AsType[*apiError](err)
		switch {
		case err == nil:
			if lost {
				w.line.print("the server is back")
			}
			job, heard, lost = next, w.now(), false
		case ctx.Err() != nil: // that is why
		case answered && answer.status == http.StatusNotFound:
			return job, fmt.Errorf("the server does not know replay %s any more", job.ID)
		case answered && answer.status < http.StatusInternalServerError:
			return job, err
		case w.now().Sub(heard) >= w.patience:
			return job, fmt.Errorf("the server is away for %s: %w; replay %s goes on when it is back, %s/replay/%s tells how it does",
				human.Seconds(w.patience.Seconds()), err, job.ID, w.client.base, job.ID)
		case !lost:
			lost = true
			w.line.print(fmt.Sprintf("the server does not answer: %s; asking on for %s", command.OneLine(err), human.Seconds(w.patience.Seconds())))
		}
	}
	return job, nil
}

// cancel asks the server to cancel a replay.
func (w *replayWatch) cancel(path string, job past.Job) (past.Job, error) {
	w.line.print(fmt.Sprintf("canceling replay %s; ^C again leaves at once", job.ID))
	if err := w.client.ask(context.Background(), http.MethodDelete, path, nil, &job); err != nil {
		return job, fmt.Errorf("replay %s is not canceled and goes on: %w", job.ID, err)
	}
	return job, nil
}

// offline replays without a server.
func (w *replayWatch) offline(ctx context.Context, config *Config, request past.Request) (past.Job, error) {
	if _, err := os.Stat(config.DataDir); err != nil {
		return past.Job{}, fmt.Errorf("--data-dir: %w", err)
	}
	w.line.print(fmt.Sprintf("no server answers at %s: replaying from %s", w.client.base, config.DataDir))
	stop := context.AfterFunc(ctx, func() { w.line.print("canceling; ^C again leaves at once") })
	defer stop()
	return w.replayCommand.offline(ctx, config, request, w.line.show, command.NewLogger(w.line, config.LogLevel))
}

// printReplay writes how a replay ended. Times are local, with their offset from UTC.
func printReplay(w io.Writer, job past.Job, local *time.Location) error {
	var b strings.Builder
	fmt.Fprintf(&b, "replay %s, %s to %s", job.ID, job.From.In(local).Format(time.RFC3339), job.To.In(local).Format(time.RFC3339))
	if job.Edge != "" {
		b.WriteString(", edge " + job.Edge)
	}
	fmt.Fprintf(&b, ": %s", job.State)
	if !job.Started.IsZero() && !job.Finished.IsZero() {
		fmt.Fprintf(&b, " in %s", human.Seconds(job.Finished.Sub(job.Started).Seconds()))
	}
	if job.State == past.StateDone && !slices.ContainsFunc(job.Parts, func(p past.Part) bool { return p.Events+p.Lost > 0 }) {
		b.WriteString(", and there was nothing to replay")
	}
	if job.DryRun {
		b.WriteString(" (dry run: nothing was changed)")
	}
	b.WriteByte('\n')
	const row = "%-12s %13s %13s %13s %11s %11s %11s\n"
	fmt.Fprintf(&b, row, "", "EVENTS", "READINGS", "POINTS", "EXPIRED", "REFUSED", "LOST")
	for _, p := range job.Parts {
		fmt.Fprintf(&b, row, p.Projection, human.Thousands(p.Events), human.Thousands(p.Readings), human.Thousands(p.Points), human.Thousands(p.Expired), human.Thousands(p.Refused), human.Thousands(p.Lost))
	}
	var notes []string
	of := make(map[string][]string) // the projections of a note: what the journal lacks, it lacks for all of them
	for _, p := range job.Parts {
		if p.State != job.State {
			fmt.Fprintf(&b, "%s: %s\n", p.Projection, p.State)
		}
		for _, note := range p.Notes {
			if of[note] == nil {
				notes = append(notes, note)
			}
			of[note] = append(of[note], p.Projection)
		}
	}
	for _, note := range notes {
		fmt.Fprintf(&b, "%s: %s\n", strings.Join(of[note], ", "), note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
