// Package promtext reads Prometheus' text exposition format, as files for node_exporter's textfile
// collector and the output of commands have it:
//
//	# HELP md_disks Disks of an array.
//	# TYPE md_disks gauge
//	md_disks{device="md0",state="active"} 2
//	up 1
//	{"a.name.in.quotes","a label"="x"} 5
//
// Promise: a line that makes no sense costs only itself, and has a reason. Parse keeps nothing
// between lines. Types are not used: histograms and summaries come as the samples that they are
// written as, with the labels le and quantile.
package promtext

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The reasons why a line gives no sample. Their texts are fixed words to count by.
var (
	ErrSyntax     = errors.New("syntax")
	ErrNotNumber  = errors.New("not a number")
	ErrNotFinite  = errors.New("not finite")
	ErrTimestamp  = errors.New("timestamp")
	ErrUnfinished = errors.New("unfinished line")
	ErrTooLong    = errors.New("line too long")
)

const (
	// MaxLine is the longest line that Parse takes.
	MaxLine = 16 << 10
	// MaxLabels is how many labels a sample may have at most.
	MaxLabels = 60
)

// Sample is one value of a series.
type Sample struct {
	Name   string
	Labels []Label // in the order of the line, without those that have an empty value
	Value  float64 // finite
}

// Label is a part of a series' identity.
type Label struct{ Name, Value string }

// Parse calls yield for each line of text that holds a sample or makes no sense: err is nil or one of
// the package's reasons, and number counts lines from 1. Empty lines and comments are skipped. As in
// Prometheus, the last line must end in a newline: without one, its value may be cut off. Parse ends
// when yield returns false.
func Parse(text []byte, yield func(number int, line []byte, s Sample, err error) bool) {
	for number := 1; len(text) > 0; number++ {
		line, rest, ended := bytes.Cut(text, []byte{'\n'})
		text = rest
		if line = bytes.TrimRight(line, "\r"); skip(line) {
			continue
		}
		var s Sample
		err := ErrUnfinished
		if ended {
			s, err = ParseLine(line)
		}
		if !yield(number, line, s, err) {
			return
		}
	}
}

func skip(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	return len(line) == 0 || line[0] == '#'
}

// ParseLine reads one line without its newline.
func ParseLine(line []byte) (Sample, error) {
	if len(line) > MaxLine {
		return Sample{}, ErrTooLong
	}
	p := parser{rest: line}
	s, err := p.sample()
	if err != nil {
		return Sample{}, err
	}
	return s, nil
}

type parser struct{ rest []byte }

func (p *parser) sample() (s Sample, err error) {
	p.blanks()
	s.Name = p.name(true)
	if len(p.rest) > 0 && strings.IndexByte(" \t{", p.rest[0]) < 0 {
		return s, ErrSyntax
	}
	p.blanks()
	if p.take('{') {
		if err := p.labels(&s); err != nil {
			return s, err
		}
	}
	if s.Name == "" {
		return s, ErrSyntax
	}
	p.blanks()
	value := p.word()
	if len(value) == 0 {
		return s, ErrSyntax
	}
	p.blanks()
	timestamp := p.word()
	p.blanks()
	if len(p.rest) > 0 {
		return s, ErrSyntax
	}
	if s.Value, err = Number(string(value)); err != nil {
		return s, err
	}
	if len(timestamp) > 0 {
		if _, err := strconv.ParseInt(string(timestamp), 10, 64); err != nil {
			return s, ErrSyntax
		}
		return s, ErrTimestamp
	}
	return s, nil
}

// Number reads a value as Prometheus writes them. The error is ErrNotNumber or ErrNotFinite.
func Number(text string) (float64, error) {
	for i := range len(text) {
		// ParseFloat takes hexadecimal floats and underscores, which are typing errors here.
		if c := text[i]; c == '_' || c == 'x' || c == 'X' || c == 'p' || c == 'P' {
			return 0, ErrNotNumber
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && (math.IsNaN(v) || math.IsInf(v, 0)):
		return 0, ErrNotFinite
	case err != nil:
		return 0, ErrNotNumber
	}
	return v, nil
}

// labels reads what comes after the opening brace, the closing one included. A text without a
// value is the metric's name.
func (p *parser) labels(s *Sample) error {
	for {
		p.blanks()
		if p.take('}') {
			return nil
		}
		quoted := len(p.rest) > 0 && p.rest[0] == '"'
		name, ok := "", true
		if quoted {
			name, ok = p.quoted()
		} else {
			name = p.name(false)
		}
		if !ok || name == "" {
			return ErrSyntax
		}
		p.blanks()
		switch {
		case p.take('='):
			p.blanks()
			value, ok := p.quoted()
			if !ok || name == "__name__" || has(s.Labels, name) {
				return ErrSyntax
			}
			if value == "" {
				break // as if the label were not there
			}
			if len(s.Labels) == MaxLabels {
				return ErrTooLong
			}
			s.Labels = append(s.Labels, Label{name, value})
		case s.Name == "":
			s.Name = name
		default:
			return ErrSyntax
		}
		p.blanks()
		if !p.take(',') {
			if p.take('}') {
				return nil
			}
			return ErrSyntax
		}
	}
}

func has(labels []Label, name string) bool {
	for _, l := range labels {
		if l.Name == name {
			return true
		}
	}
	return false
}

func (p *parser) blanks() { p.rest = bytes.TrimLeft(p.rest, " \t") }

func (p *parser) take(c byte) bool {
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// word takes what comes before the next blank.
func (p *parser) word() []byte {
	end := bytes.IndexAny(p.rest, " \t")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

// name takes a name of letters, digits and underscores; the names of metrics also have colons.
func (p *parser) name(colons bool) string {
	i := 0
	for i < len(p.rest) {
		c := p.rest[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || colons && c == ':' || i > 0 && '0' <= c && c <= '9') {
			break
		}
		i++
	}
	name := string(p.rest[:i])
	p.rest = p.rest[i:]
	return name
}

// quoted takes a text in quotes, in which \\, \" and \n are escapes.
func (p *parser) quoted() (text string, ok bool) {
	if !p.take('"') {
		return "", false
	}
	var b []byte
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			b = append(b, p.rest[:i]...)
			p.rest = p.rest[i+1:]
			return string(b), utf8.Valid(b)
		case '\\':
			if i+1 == len(p.rest) {
				return "", false
			}
			b = append(b, p.rest[:i]...)
			switch e := p.rest[i+1]; e {
			case '\\', '"':
				b = append(b, e)
			case 'n':
				b = append(b, '\n')
			default:
				return "", false
			}
			p.rest = p.rest[i+2:]
			i = -1
		}
	}
	return "", false
}
