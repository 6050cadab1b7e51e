// Package jsonmistake describes in plain words the mistake in a JSON file that people wrote by
// hand, and finds the mistake's line.
package jsonmistake

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// Line returns the number of the line that holds the byte at offset, counted from 1.
func Line(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte{'\n'}) }

// Find returns the reason why text is not one JSON object, and the line of that mistake. The
// mistake is "" if text is one JSON object. Line 0 stands for the whole file. example is an object
// of the wanted kind. The result never repeats the text, which may hold secrets.
func Find(text []byte, example string) (line int, mistake string) {
	wantObject := "must be one JSON object, such as " + example
	first := bytes.TrimLeft(text, " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return 1, "the file begins with a byte order mark (BOM): save it as UTF-8 without one"
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")), bytes.IndexByte(text, 0) >= 0:
		return 0, "is not UTF-8 but UTF-16, or no text at all: save it as UTF-8"
	case !utf8.Valid(text):
		return Line(text, firstInvalid(text)), "a character is not UTF-8: save the file as UTF-8"
	case len(first) == 0:
		return 0, "is empty: it " + wantObject
	}
	if !json.Valid(text) {
		var syntax *json.SyntaxError
		// A byte that is never valid is added, so that an early end of the text is a mistake like
		// any other.
		errors.As(json.Unmarshal(append(text[:len(text):len(text)], 0), new(json.RawMessage)), &syntax)
		return syntaxMistake(text, int(syntax.Offset)-1, wantObject)
	}
	if first[0] != '{' {
		return Line(text, len(text)-len(first)), "the file " + wantObject
	}
	return 0, ""
}

func firstInvalid(text []byte) int {
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return len(text)
}

// syntaxMistake returns the mistake at the first wrong byte of text, at the offset at. If at is the
// end of the text, something is missing.
func syntaxMistake(text []byte, at int, wantObject string) (line int, mistake string) {
	if opened := openText(text[:at]); opened >= 0 {
		return textMistake(text, opened, at)
	}
	from, end := at, at // the word that the byte is a part of
	for from > 0 && isWord(text[from-1]) {
		from--
	}
	for end < len(text) && isWord(text[end]) {
		end++
	}
	before := bytes.TrimRight(text[:from], " \t\r\n")
	last := byte(0) // the last byte before the word, and below its line
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	lastLine := Line(text, max(len(before)-1, 0))
	isKey := last == '"' && afterKey(before)
	if at == len(text) {
		return Line(text, len(bytes.TrimRight(text, " \t\r\n"))), "the closing } is missing"
	}
	c, rest := text[at], string(text[at:])
	switch line = Line(text, from); {
	case c == '/', c == '#':
		return line, "a comment: JSON has none, so remove it"
	case last == '}' && depth(before) == 0:
		return line, "something follows the JSON object"
	case depth(before) == 0:
		return line, "the file " + wantObject
	case startsWithAny(rest, "'", "`", "“", "”", "„", "‘", "’", "«", "»"):
		return line, `a quote that JSON does not know: put keys and texts in " double quotes`
	case last == ',' && (c == '}' || c == ']'):
		return lastLine, "the comma before the closing " + rest[:1] + " is one too many"
	case c == ',' && (last == ',' || last == '{'):
		return line, "a comma too many"
	case last == ':' && (c == ',' || c == '}'):
		return lastLine, "a value is missing after the colon"
	case isKey:
		return lastLine, "a colon must stand between a key and its value"
	case last == ':':
		return line, `a value must be a text in " double quotes, a number, true or false`
	case last == ',' || last == '{':
		return line, `a key must be a text in " double quotes`
	case end > from || c == '"':
		return lastLine, "a comma is missing after the value"
	}
	return line, "this is not valid JSON"
}

// textMistake returns the mistake at the offset at in a quoted text that begins at opened.
func textMistake(text []byte, opened, at int) (line int, mistake string) {
	switch {
	case at == len(text), text[at] == '\n', text[at] == '\r':
		return Line(text, opened), `a text is not closed: its second " is missing`
	case text[at] < ' ':
		return Line(text, at), `a tab or another control character stands in a text: write it as \t or \u0007`
	}
	return Line(text, at), `a backslash in a text must be doubled: \\`
}

// openText returns the offset of a quoted text that is not closed, or -1 if there is none.
func openText(text []byte) int {
	opened := -1
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"' && opened < 0:
			opened = i
		case text[i] == '"':
			opened = -1
		case text[i] == '\\' && opened >= 0:
			i++
		}
	}
	return opened
}

// afterKey reports whether text, which ends with a quote, ends with a key. It does if a brace or a
// comma stands before the key's first quote.
func afterKey(text []byte) bool {
	before := bytes.TrimRight(text[:max(openText(text[:len(text)-1]), 0)], " \t\r\n")
	return len(before) > 0 && (before[len(before)-1] == '{' || before[len(before)-1] == ',')
}

// depth returns how many braces and brackets are open at the end of text.
func depth(text []byte) (n int) {
	inText := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && inText:
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			n++
		case c == '}' || c == ']':
			n--
		}
	}
	return n
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		c == '_' || c == '-' || c == '+' || c == '.' || c >= utf8.RuneSelf
}

func startsWithAny(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
