package ingest

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTranscripts plays testdata/transcripts/*/session.txt against a server and compares the
// journal's events with journal.txt. > is sent by the relay, < by the server; raw > is sent without
// a line end.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*/session.txt")
	if err != nil || len(files) < 15 {
		t.Fatalf("only %d transcripts: %v", len(files), err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			session, want := readLines(t, file), readLines(t, filepath.Join(dir, "journal.txt"))
			synctest.Test(t, func(t *testing.T) { play(t, session, want) })
		})
	}
}

func play(t *testing.T, session, want []string) {
	var opt Options
	for _, line := range session {
		if rest, ok := strings.CutPrefix(line, "option "); ok {
			setOption(t, &opt, rest)
		}
	}
	w := newWorld(t, func(o *Options) { *o = opt })
	p := w.dial()
	for i, line := range session {
		verb, rest, _ := strings.Cut(line, " ")
		t.Logf("line %d: %s", i+1, line)
		switch verb {
		case "", "#", "option":
		case ">":
			p.send(rest)
		case "raw":
			text := strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(strings.TrimPrefix(rest, "> "))
			if _, err := p.conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		case "<":
			p.want(rest)
		case "closed":
			p.wantClosed()
		case "hangup":
			p.conn.Close()
		case "silence":
			p.wantSilence(durationIn(t, rest))
		case "do":
			do(t, w, rest)
		default:
			t.Fatalf("unknown directive %q", verb)
		}
		settle()
	}
	if got := w.journal.text(); !slices.Equal(got, want) {
		t.Errorf("journal:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func setOption(t *testing.T, o *Options, text string) {
	name, value, _ := strings.Cut(text, " ")
	n, _ := strconv.Atoi(value)
	switch name {
	case "token":
		o.Token = value
	case "collectors":
		o.Limits.Collectors = n
	case "series":
		o.Limits.Series = n
	default:
		t.Fatalf("unknown option %q", name)
	}
}

func do(t *testing.T, w *world, text string) {
	words := strings.Fields(text)
	switch words[0] {
	case "flush":
		if n := w.srv.Flush(nil); n != 1 {
			t.Fatalf("Flush told %d relays, want 1", n)
		}
	case "override":
		name, interval, _ := strings.Cut(words[2], ":")
		req := OverrideRequest{Duration: durationIn(t, words[1]), Collectors: map[string]time.Duration{name: durationIn(t, interval)}}
		if _, err := w.srv.Override(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("unknown action %q", words[0])
	}
}

func durationIn(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
