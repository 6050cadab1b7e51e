package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/promtext"
)

// Reasons besides those of promtext.
const (
	tooMuch  = "too much output"
	timedOut = "timeout"
	badExit  = "exit status"
	notStart = "cannot start"
)

var errTooMuch = errors.New("commands: the output is too long")

// afterKill is how long after a kill, or after the command's own end, its output is waited for: a
// child may still hold it open.
const afterKill = time.Second

// run runs the command once. It does nothing after Close.
func (c *command) run() *run {
	r := &run{sets: promtext.NewSets()}
	if c.ctx.Err() != nil {
		return r
	}
	begun := time.Now()
	out, reason, err := c.output()
	ok := 1.0
	if reason != "" {
		ok = 0
		if c.ctx.Err() == nil { // else Close killed it
			c.rejects.Add(reason, 1, fmt.Sprintf("%s: %v", c.Name, err))
		}
	} else {
		c.parse(out, r.sets)
	}
	own := c.tags(nil)
	r.sets.Add(own, "command_ok", ok)
	r.sets.Add(own, "command_seconds", math.Round(time.Since(begun).Seconds()*1000)/1000)
	return r
}

// output runs the command and returns what it wrote. If the run failed, reason is set, and err says
// more.
func (c *command) output() (out []byte, reason string, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell[0], shell[1], c.Line)
	stdout := &bounded{limit: c.o.MaxBytes, full: cancel}
	stderr := &bounded{limit: 1 << 10}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, afterKill
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, notStart, err
	}
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		killRest(cmd) // what the command left in the background, which still holds its output
	}
	switch {
	case stdout.over:
		return nil, tooMuch, errTooMuch
	case ctx.Err() != nil:
		return nil, timedOut, context.Cause(ctx)
	case err != nil:
		return nil, badExit, fmt.Errorf("%w: %.200s", err, bytes.TrimSpace(stderr.b.Bytes()))
	}
	return stdout.b.Bytes(), "", nil
}

// parse reads the output.
func (c *command) parse(out []byte, sets *promtext.Sets) {
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n') // the command has ended, so nothing is cut off
	}
	n := 0
	seen := map[string]bool{}
	promtext.Parse(out, func(_ int, line []byte, s promtext.Sample, err error) bool {
		if err != nil {
			s, err = c.plain(line, err)
		}
		var stat string
		var tags []string
		if err == nil {
			stat, tags, err = promtext.Series(s)
		}
		if err == nil {
			tags = c.tags(without(tags, "command:"))
			key := stat + "," + promtext.Key(tags)
			switch {
			case seen[key] || stat == "command_ok" || stat == "command_seconds":
				err = promtext.ErrDuplicate
			case n == c.o.MaxSeries:
				err = promtext.ErrTooMany
			}
			seen[key] = err == nil || seen[key]
		}
		if err != nil {
			c.rejects.Add(err.Error(), 1, fmt.Sprintf("%s: %.100s", c.Name, line))
			return true
		}
		n++
		sets.Add(tags, stat, s.Value)
		return true
	})
}

// plain reads a line that is not in Prometheus' form: a number alone, or "stat value" with a stat
// that has other characters than Prometheus allows. The error is why otherwise.
func (c *command) plain(line []byte, why error) (promtext.Sample, error) {
	words := strings.Fields(string(line))
	switch {
	case len(words) == 1:
		v, err := promtext.Number(words[0])
		if errors.Is(err, promtext.ErrNotNumber) {
			err = why
		}
		return promtext.Sample{Name: c.Name, Value: v}, err
	case len(words) == 2 && errors.Is(why, promtext.ErrSyntax) && relaywire.ValidName(words[0]):
		v, err := promtext.Number(words[1])
		return promtext.Sample{Name: words[0], Value: v}, err
	}
	return promtext.Sample{}, why
}

// without leaves out the tag of the command, which a series cannot have a second time.
func without(tags []string, prefix string) []string {
	var kept []string
	for _, tag := range tags {
		if !strings.HasPrefix(tag, prefix) {
			kept = append(kept, tag)
		}
	}
	return kept
}

// bounded keeps the first limit bytes. It calls full, if it has it, when more come.
type bounded struct {
	limit int
	full  func()
	over  bool
	b     bytes.Buffer
}

// Write implements io.Writer. It never fails: a command that gets an error would blame its pipe.
func (w *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), w.limit-w.b.Len())
	w.b.Write(p[:keep])
	if keep < len(p) && w.full != nil {
		w.over = true
		w.full()
	}
	return len(p), nil
}
