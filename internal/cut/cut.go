// Package cut bounds text that comes from outside (a receiver's status line, a database error, a
// relay's message) before it is kept, logged or shown.
package cut

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s on one line and in at most n bytes, where n is at least 3. Control characters and
// bytes that are not UTF-8 become spaces. If Text cuts s off, the result ends with "...", which
// counts among the n bytes. Text reads only the first n bytes, however long s is.
func Text(s string, n int) string {
	long := len(s) > n
	if long {
		s = s[:n-len(mark)]
		for i := 0; i < utf8.UTFMax-1 && len(s) > 0; i++ { // drop a rune that was cut
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

// Error returns err with a text of at most n bytes, made by Text. errors.Is and errors.As find the
// same errors in the result as in err. A nil err stays nil.
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
