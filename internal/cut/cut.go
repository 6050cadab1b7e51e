// Package cut bounds text that comes from outside (a receiver's status line, an
// error of a database, a relay's word) before it is kept, logged or shown.
package cut

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s on one line and in at most n bytes: control characters and bytes
// that are not UTF-8 become spaces, and what was cut off is marked by "...", which
// counts. It looks at the first n bytes only, however long s is. n is at least 3.
func Text(s string, n int) string {
	long := len(s) > n
	if long {
		s = s[:n-len(mark)]
		for i := 0; i < utf8.UTFMax-1 && len(s) > 0; i++ { // a rune that the cut went through
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if long {
		s += mark
	}
	return s
}

const mark = "..."

// Error returns err with a text of at most n bytes, as Text makes it. errors.Is and
// errors.As find in it what they find in err. A nil err stays nil.
func Error(err error, n int) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if bounded := Text(text, n); bounded != text {
		return &cutError{text: bounded, err: err}
	}
	return err
}

type cutError struct {
	text string
	err  error
}

func (e *cutError) Error() string { return e.text }
func (e *cutError) Unwrap() error { return e.err }
