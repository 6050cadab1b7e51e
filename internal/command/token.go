package command

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nanopack/pulse/relaywire"
)

// TokenMistake returns why no client could give this token, or "".
func TokenMistake(token string) string {
	switch {
	case strings.Trim(token, " \t\r\n") != token:
		return "must not begin or end with a blank or a line break, which no client could send"
	case strings.ContainsFunc(token, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		return "must not hold line breaks or other control characters, which no client could send"
	}
	return ""
}

// CheckRelayToken fails if the relay protocol cannot carry the token. An empty token means that
// there is none.
func CheckRelayToken(v string) error {
	wrong := TokenMistake(v)
	switch {
	case v == "" || relaywire.ValidToken(v):
		return nil
	case wrong == "" && strings.ContainsAny(v, " \t"):
		wrong = "must not hold blanks"
	case wrong == "" && !utf8.ValidString(v):
		wrong = "must be UTF-8"
	case wrong == "":
		wrong = fmt.Sprintf("must have at most %d bytes, not %d", relaywire.MaxName, len(v))
	}
	return errors.New(wrong)
}
