package relay

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestQuote: a server's words are kept, logged and shown with bounded length.
func TestQuote(t *testing.T) {
	for said, want := range map[string]string{
		"":                         "",
		"wrong token":              "wrong token",
		"a\tb\x1b[31m\xff":         "a b [31m ",
		strings.Repeat("x", 256):   strings.Repeat("x", 256),
		strings.Repeat("x", 60000): strings.Repeat("x", 253) + "...",
	} {
		if got := quote([]byte(said)); got != want {
			t.Errorf("quote(%.20q) = %q", said, got)
		}
	}
	if got := quote([]byte(strings.Repeat("ä", 30000))); len(got) > maxQuoted || !utf8.ValidString(got) {
		t.Errorf("%d bytes, %q", len(got), got)
	}
}
