package relaywire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTranscripts plays testdata/*.txt: the lines of both sides, each followed by the message that
// the reader must return for it.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 7 {
		t.Fatalf("found the transcripts %q, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// Lines with either ending must give the same messages.
			for _, end := range []string{"\n", "\r\n"} {
				walkTranscript(t, string(text), end)
			}
		})
	}
}

func walkTranscript(t *testing.T, text, end string) {
	var said, want, where []string // said[i] must be read as want[i]
	token := false
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "token":
			token = true
		case strings.HasPrefix(line, "> "), strings.HasPrefix(line, "< "):
			said = append(said, line[2:])
			want = append(want, "")
			where = append(where, fmt.Sprintf("line %d: %s", n+1, line))
		case strings.HasPrefix(line, "= "):
			want[len(want)-1] += line + "\n"
		default:
			t.Fatalf("line %d of the transcript: %q", n+1, line)
		}
	}
	if len(said) < 4 {
		t.Fatalf("a transcript of %d lines", len(said))
	}
	r := NewReader(strings.NewReader(strings.Join(said, end) + end))
	for i := range said {
		m, err := r.Read()
		if err != nil {
			t.Fatalf("%s: %v", where[i], err)
		}
		if got := describe(m, token); got != want[i] {
			t.Errorf("%s (end %q)\nread\n%swant\n%s", where[i], end, got, want[i])
		}
	}
	if m, err := r.Read(); err != io.EOF {
		t.Errorf("behind the last line: %v, %v", m, err)
	}
}

// describe reads a message as its receiver would.
func describe(m Message, token bool) string {
	var b strings.Builder
	var err error
	switch m.Verb {
	case VerbID:
		var id, tok []byte
		if id, tok, err = ParseID(m.Args, token); err == nil {
			fmt.Fprintf(&b, "= id %q", id)
			if tok != nil {
				fmt.Fprintf(&b, " token %q", tok)
			}
		}
	case VerbAdd:
		name, tags, bad := ParseAdd(m.Args)
		if err = bad; err == nil {
			fmt.Fprintf(&b, "= add %q tags", name)
			for tag := range tags {
				fmt.Fprintf(&b, " %q", tag)
			}
		}
	case VerbRemove:
		var name []byte
		if name, err = ParseRemove(m.Args); err == nil {
			fmt.Fprintf(&b, "= remove %q", name)
		}
	case VerbGot, VerbTook, VerbPast:
		items := m.Args
		var r Record
		var ms int64
		switch m.Verb {
		case VerbTook:
			r, items, err = ParseTook(m.Args)
			fmt.Fprintf(&b, "= took %d-%d\n", r.First, r.Seq)
		case VerbPast:
			r, ms, items, err = ParsePast(m.Args)
			fmt.Fprintf(&b, "= past %d-%d at %d\n", r.First, r.Seq, ms)
		}
		if err != nil {
			return fmt.Sprintf("= refused %v\n", err)
		}
		for r := range Readings(items) {
			switch {
			case r.Err != nil && r.Stat == nil:
				fmt.Fprintf(&b, "= rejected %q %v\n", r.Collector, r.Err)
			case r.Err != nil:
				fmt.Fprintf(&b, "= rejected %q %q %v\n", r.Collector, r.Stat, r.Err)
			default:
				fmt.Fprintf(&b, "= got %q %q %v\n", r.Collector, r.Stat, r.Value)
			}
		}
		if b.Len() == 0 {
			return "= got\n"
		}
		return b.String()
	case VerbSpool:
		var s SpoolState
		s, err = ParseSpool(m.Args)
		fmt.Fprintf(&b, "= spool %v waiting %d dropped %d at %d", s.ID, s.Waiting, s.Dropped, s.Now)
	case VerbKept:
		id, r, bad := ParseKept(m.Args)
		err = bad
		fmt.Fprintf(&b, "= kept %v %d-%d", id, r.First, r.Seq)
	case VerbRecall:
		n, bad := ParseRecall(m.Args)
		err = bad
		fmt.Fprintf(&b, "= recall %d", n)
	case VerbGet, VerbTakes:
		fmt.Fprintf(&b, "= %v", m.Verb)
		for name := range Names(m.Args) {
			fmt.Fprintf(&b, " %q", name)
		}
	case VerbOverride:
		d, items, bad := ParseOverride(m.Args)
		if err = bad; err == nil {
			fmt.Fprintf(&b, "= override %v", d)
			for name, every := range items {
				fmt.Fprintf(&b, " %q %v", name, every)
			}
		}
	case VerbBeat:
		d, bad := ParseBeat(m.Args)
		err = bad
		fmt.Fprintf(&b, "= beat %v", d)
	case VerbUnknown, VerbError:
		fmt.Fprintf(&b, "= %v %q", m.Verb, m.Args)
	default:
		fmt.Fprintf(&b, "= %v", m.Verb)
	}
	if err != nil {
		return fmt.Sprintf("= refused %v\n", err)
	}
	return b.String() + "\n"
}

// TestErrorsCanBeSent checks that AppendError sends the text of every sentinel unchanged.
func TestErrorsCanBeSent(t *testing.T) {
	for _, err := range []error{ErrLineTooLong, ErrMissingID, ErrMissingToken, ErrWrongToken, ErrBadID, ErrBadName, ErrReserved, ErrBadTag, ErrTooManyTags, ErrNoValue, ErrNotNumber, ErrNotFinite, ErrBadDuration, ErrBadOverride, ErrBadSpool} {
		m := Parse(AppendError(nil, err.Error()))
		if m.Verb != VerbError || !bytes.Equal(m.Args, []byte(err.Error())) {
			t.Errorf("%v arrives as %v %q", err, m.Verb, m.Args)
		}
		if errors.Unwrap(err) != nil {
			t.Errorf("%v wraps something: it is compared with ==", err)
		}
	}
}

func TestVerbsReadAsTheyAreWritten(t *testing.T) {
	for v := VerbUnknown + 1; v < verbs; v++ {
		if got := Parse([]byte(v.String())); got.Verb != v || len(got.Args) != 0 {
			t.Errorf("%v reads as %v %q", v, got.Verb, got.Args)
		}
		if got := Parse([]byte(v.String() + " x  y\r\n")); got.Verb != v || string(got.Args) != "x  y" {
			t.Errorf("%v with arguments reads as %v %q", v, got.Verb, got.Args)
		}
		if got := Parse([]byte(v.String() + "x")); got.Verb != VerbUnknown {
			t.Errorf("%vx reads as %v", v, got.Verb)
		}
	}
	if s := verbs.String(); s != "unknown" {
		t.Errorf("a verb that does not exist is called %q", s)
	}
}
