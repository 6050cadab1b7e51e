package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nanopack/pulse/internal/strictjson"
)

// maxConfigFile bounds what is read of a config file: one that is longer is another file.
const maxConfigFile = 1 << 20

// A fileError is about the config file's content. It never repeats the content, which holds secrets.
type fileError struct {
	path string
	line int // 0: of the whole file
	text string
}

func (e *fileError) Error() string {
	if e.line == 0 {
		return fmt.Sprintf("--config-file: %s %s", e.path, e.text)
	}
	return fmt.Sprintf("--config-file: line %d of %s: %s", e.line, e.path, e.text)
}

// readConfigFile calls set for every key of the config file, with the line that the key stands on, until set fails.
func readConfigFile(path string, r io.Reader, all []option, set func(key, value string, line int) error) error {
	text, err := io.ReadAll(io.LimitReader(r, maxConfigFile+1))
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	return parseConfigFile(path, text, all, set)
}

// parseConfigFile reads one flat JSON object whose keys are the long flag names, each at most once: of two, one
// would be passed over in silence.
func parseConfigFile(path string, text []byte, all []option, set func(key, value string, line int) error) error {
	if line, wrong := jsonMistake(text); wrong != "" {
		return &fileError{path, line, wrong}
	}
	fields, err := strictjson.Fields(text)
	if err != nil {
		return &fileError{path, 0, "is not valid JSON"} // jsonMistake reports what can be wrong
	}
	for _, f := range fields {
		line, wrong := lineOf(text, f.End), ""
		value, kind := configValue(f.Value)
		switch {
		case f.Name == "config-file":
			wrong = `"config-file" cannot be a key of the config file itself`
		case !slices.ContainsFunc(all, func(o option) bool { return o.long == f.Name }):
			wrong = fmt.Sprintf("unknown key %.100q%s", f.Name, didYouMean(f.Name, flagNames(all), ""))
		case f.Again:
			wrong = fmt.Sprintf("the key %q is given twice", f.Name)
		case kind != "":
			wrong = fmt.Sprintf("the value of %q must be a text, a number, true or false, not %s", f.Name, kind)
		}
		if wrong != "" {
			return &fileError{path, line, wrong}
		}
		if err := set(f.Name, value, line); err != nil {
			return err
		}
	}
	return nil
}

// configValue returns the value of a key as the command line would have it. kind names a value that
// no key can have; it is "" for one that can.
func configValue(raw json.RawMessage) (value, kind string) {
	switch raw[0] {
	case 'n':
		return "", "null"
	case '[':
		return "", "a list"
	case '{':
		return "", "an object"
	case '"':
		_ = json.Unmarshal(raw, &value) // it is a valid text
		return value, ""
	}
	return string(raw), ""
}

// lineOf is the line on which the byte at an offset stands, from 1 on.
func lineOf(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte{'\n'}) }

const wantObject = `must be one JSON object, such as {"server": true, "poll-interval": 60}`

// jsonMistake says what keeps text from being one JSON object, and on which line; "" if nothing does. Line 0
// stands for the whole file.
func jsonMistake(text []byte) (line int, wrong string) {
	first := bytes.TrimLeft(text, " \t\r\n")
	switch {
	case len(text) > maxConfigFile:
		return 0, fmt.Sprintf("is longer than %d bytes: is it the config file?", maxConfigFile)
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return 1, "the file begins with a byte order mark (BOM): save it as UTF-8 without one"
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")), bytes.IndexByte(text, 0) >= 0:
		return 0, "is not UTF-8 but UTF-16, or no text at all: save it as UTF-8"
	case !utf8.Valid(text):
		return lineOf(text, firstInvalid(text)), "a character is not UTF-8: save the file as UTF-8"
	case len(first) == 0:
		return 0, "is empty: it " + wantObject
	}
	if !json.Valid(text) {
		var syntax *json.SyntaxError
		// With a byte more that cannot be there, the end of the text is a mistake like any other.
		errors.As(json.Unmarshal(append(text[:len(text):len(text)], 0), new(json.RawMessage)), &syntax)
		return syntaxMistake(text, int(syntax.Offset)-1)
	}
	if first[0] != '{' {
		return lineOf(text, len(text)-len(first)), "the file " + wantObject
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

// syntaxMistake says what is wrong at a byte, before which all is right. At the end of the text something is missing.
func syntaxMistake(text []byte, at int) (line int, wrong string) {
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
	last := byte(0) // what stands before, and where
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	lastLine := lineOf(text, max(len(before)-1, 0))
	isKey := last == '"' && afterKey(before)
	if at == len(text) {
		return lineOf(text, len(bytes.TrimRight(text, " \t\r\n"))), "the closing } is missing"
	}
	c, rest := text[at], string(text[at:])
	switch line = lineOf(text, from); {
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

// textMistake says what is wrong at a byte of a text in quotes, whose quote opened it.
func textMistake(text []byte, opened, at int) (line int, wrong string) {
	switch {
	case at == len(text), text[at] == '\n', text[at] == '\r':
		return lineOf(text, opened), `a text is not closed: its second " is missing`
	case text[at] < ' ':
		return lineOf(text, at), `a tab or another control character stands in a text: write it as \t or \u0007`
	}
	return lineOf(text, at), `a backslash in a text must be doubled: \\`
}

// openText is where a text in quotes begins that is not closed, -1 if there is none.
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

// afterKey reports whether the text that ends with a quote ends with a key: what stands before its other quote
// is a brace or a comma.
func afterKey(text []byte) bool {
	before := bytes.TrimRight(text[:max(openText(text[:len(text)-1]), 0)], " \t\r\n")
	return len(before) > 0 && (before[len(before)-1] == '{' || before[len(before)-1] == ',')
}

// depth is how many braces and brackets are open at the end of text.
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
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '+' || c == '.' || c >= utf8.RuneSelf
}

func startsWithAny(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
