package cut

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 5, ""},
		{"short", 5, "short"},
		{"longer", 5, "lo..."},
		{"a\nb\tc\x1b[31m", 20, "a b c [31m"},
		{"äöü", 6, "äöü"},
		{"äöüß", 6, "ä..."},
		{"a\xff", 5, "a "},
	} {
		if got := Text(c.in, c.n); got != c.want {
			t.Errorf("Text(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("HTTP/1.1 200 \xf0\x9f\x98", 12)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 3 || n > 1000 {
			return
		}
		got := Text(s, n)
		if len(got) > n || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00") {
			t.Fatalf("Text(%q, %d) = %q", s, n, got)
		}
		if again := Text(got, n); again != got {
			t.Fatalf("Text is not stable: %q, then %q", got, again)
		}
	})
}

func TestError(t *testing.T) {
	if Error(nil, 10) != nil {
		t.Error("a nil error became one")
	}
	if err := Error(io.EOF, 10); err != io.EOF {
		t.Errorf("got %v", err)
	}
	err := Error(fmt.Errorf("%s: %w", strings.Repeat("x", 1000), io.EOF), 20)
	if !errors.Is(err, io.EOF) || len(err.Error()) != 20 {
		t.Errorf("got %v", err)
	}
}
