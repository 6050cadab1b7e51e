package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/kapa"
)

// trialTimeout bounds a test of an alert: the server takes half a minute at most, and may wait for
// another test first.
const trialTimeout = time.Minute

const alertHelp = `List the alerts of a running server.

  pulse alert test shows what an alert would have posted in the past.`

const alertTestHelp = `Show what an alert would have posted in the past: run the evaluator of a server over its journal.
Nothing is made and nothing is posted. --from and --to take 90m, 1d, 2026-11-20 or yesterday (its midnight),
"2026-11-20 14:00", 2026-11-20T14:00:00Z; without a zone they are of this host's zone (TZ).

  pulse alert test --metric cpu_used --threshold 80 --duration 5m --by host --from 2d`

// runAlert lists the alerts of a running server, or tests one on the past.
func runAlert(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if rest, ok := command.CutVerb(args, "test"); ok {
		return runAlertTest(ctx, rest, stdout, stderr)
	}
	c := newCommand("alert", alertHelp, "PULSE", stdout, stderr)
	c.Verb = "test"
	return runShow(ctx, c, args, "/alerts", printAlerts)
}

// printAlerts writes a line for each alert.
func printAlerts(w io.Writer, alerts []kapa.View) error {
	if len(alerts) == 0 {
		_, err := fmt.Fprintln(w, "no alerts: POST /alerts makes them")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // keeps the first error of w for Flush
	fmt.Fprintf(t, "ALERT\tSTATE\tLEVEL\tFIRING\tNAME\tFIRES WHEN\n")
	for _, a := range alerts {
		firing := "-"
		if s := a.Status; s.GroupsFiring != nil && s.GroupsWatched != nil {
			firing = fmt.Sprintf("%d of %d", *s.GroupsFiring, *s.GroupsWatched)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", a.ID, a.Status.State, cmp.Or(a.Status.Level, "-"), firing, a.Name(), condition(&a.Alert))
	}
	return t.Flush()
}

// condition says in words when an alert fires.
func condition(a *kapa.Alert) string {
	sign := map[kapa.Operator]string{kapa.Greater: ">", kapa.GreaterOrEqual: ">=", kapa.Less: "<", kapa.LessOrEqual: "<=", kapa.Equal: "=", kapa.NotEqual: "!="}[a.Operator]
	text := fmt.Sprintf("mean of %s %s %v", a.Duration, sign, float64(a.Threshold))
	if a.Deadman != 0 {
		text += ", or none for " + a.Deadman.String()
	}
	return text
}

// alertTest is the body of POST /alerts/test. What is left out gets the server's default.
type alertTest struct {
	Metric    string            `json:"metric"`
	Threshold string            `json:"threshold"`
	Tags      map[string]string `json:"tags,omitempty"`
	By        []string          `json:"by,omitempty"`
	Level     string            `json:"level,omitempty"`
	Operator  string            `json:"operator,omitempty"`
	Duration  string            `json:"duration,omitempty"`
	Every     string            `json:"every,omitempty"`
	Recover   string            `json:"recover,omitempty"`
	Deadman   string            `json:"deadman,omitempty"`
	From      string            `json:"from"`
	To        string            `json:"to,omitempty"`
}

// runAlertTest is `pulse alert test`.
func runAlertTest(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("alert test", alertTestHelp, "PULSE", stdout, stderr)
	var q alertTest
	c.StringVar(&q.Metric, "metric", "", "The stat to watch, such as cpu_used (required)")
	c.StringVar(&q.Threshold, "threshold", "", "What the mean is compared with (required)")
	c.StringVar(&q.Operator, "operator", "", "gt, ge, lt, le, eq or ne, between the mean and the threshold; gt when left out")
	c.StringVar(&q.Duration, "duration", "", "How far back the mean goes; 5m when left out")
	c.StringVar(&q.Every, "every", "", "How often it is evaluated; 30s when left out")
	c.StringVar(&q.Recover, "recover", "", "It is over when the mean is no longer beyond this; the threshold when left out")
	c.StringVar(&q.Deadman, "deadman", "", "It fires when a relay has sent none for that long; never when left out")
	c.StringVar(&q.Level, "level", "", "info, warn or crit; crit when left out")
	tags := c.String("tags", "", "Tags that a reading must have to count, such as service:web1,host:web1")
	by := c.String("by", "", "Tags by whose values readings are split, such as host or host,disk")
	from := c.String("from", "", "Where it begins: a time or date, or how far back, like 90m or 1d (required)")
	to := c.String("to", "", "Where it ends, in the same way, not included; now when left out")
	asJSON := c.Bool("json", false, "Print the server's answer as it is")
	client, code := dial(c, args)
	if client == nil {
		return code
	}
	if err := q.complete(*tags, *by, *from, *to, c); err != nil {
		return c.Misused(err)
	}
	client.timeout = trialTimeout
	answer, err := client.do(ctx, http.MethodPost, "/alerts/test", q)
	said, _ := errors.AsType[*apiError](err)
	switch {
	case err == nil:
	case said != nil && said.status == http.StatusBadRequest:
		return c.Misused(errors.New(said.text))
	case said != nil && (said.status == http.StatusNotFound || said.status == http.StatusMethodNotAllowed):
		return c.Failed(fmt.Errorf("%s has no tests of alerts: is it an older pulse?", client.base))
	default:
		return unanswered(c, err)
	}
	return show(c, client, answer, *asJSON, func(w io.Writer, t kapa.Trial) error { return printTrial(w, t, c.Location) })
}

// complete checks the flags as far as that is possible without a server, and fills in those that
// the server takes in another form.
func (q *alertTest) complete(tags, by, from, to string, c *command.Command) (err error) {
	for _, required := range []struct{ flag, value, what string }{
		{"metric", q.Metric, "the stat to watch, such as cpu_used"}, {"threshold", q.Threshold, "a number"},
		{"from", from, "a time or date like 2026-11-20 or yesterday, or how far back, like 90m or 1d"},
	} {
		if required.value == "" {
			return fmt.Errorf("--%s is required: %s", required.flag, required.what)
		}
	}
	if tags != "" {
		q.Tags = map[string]string{}
		for tag := range strings.SplitSeq(tags, ",") {
			key, value, ok := strings.Cut(tag, ":")
			if _, again := q.Tags[key]; !ok || again {
				return fmt.Errorf("--tags %q: must be like service:web1,host:web1, each tag once", tags)
			}
			q.Tags[key] = value
		}
	}
	if by != "" {
		q.By = strings.Split(by, ",")
	}
	now := time.Now()
	if _, q.From, err = when("from", from, now, c.Location); err != nil || to == "" {
		return err
	}
	_, q.To, err = when("to", to, now, c.Location)
	return err
}

// printTrial writes what an alert would have posted. Times are local, with their offset from UTC.
func printTrial(w io.Writer, t kapa.Trial, local *time.Location) error {
	at := func(t time.Time) string { return t.In(local).Format(time.RFC3339) }
	var b strings.Builder
	posts := fmt.Sprintf("%s posts", human.Thousands(uint64(len(t.Posts))))
	switch len(t.Posts) {
	case 0:
		posts = "nothing would have been posted"
	case 1:
		posts = "1 post"
	}
	fmt.Fprintf(&b, "%s, %s, from %s to %s: %s\n", t.Alert.Name(), condition(&t.Alert), at(t.From), at(t.To), posts)
	for _, p := range t.Posts {
		fmt.Fprintf(&b, "%s  %s\n", at(p.Time), p.Message)
	}
	if t.Stopped != "" {
		fmt.Fprintf(&b, "it ended at %s, because %s; --from %[1]s goes on from there\n", at(t.Reached), t.Stopped)
	}
	fmt.Fprintf(&b, "read: %s events with %s readings, of which %s count", human.Thousands(t.Events), human.Thousands(t.Readings), human.Thousands(t.Matched))
	if t.Firing > 0 {
		fmt.Fprintf(&b, "; at the end %d of %d fire", t.Firing, t.Groups)
	}
	b.WriteByte('\n')
	if t.Lost > 0 {
		fmt.Fprintf(&b, "%s events are missing from the journal\n", human.Thousands(t.Lost))
	}
	for _, note := range t.Notes {
		fmt.Fprintln(&b, note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
