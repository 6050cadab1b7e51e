package command

import "strings"

// A List is the value of a flag that holds several texts. It is one text with a separator between
// them; in a config file it may also be a list. A flag that is given again adds to it.
type List struct {
	Separator string
	text      string
	set       bool
}

// NewList returns a list with a default, which the first Set replaces.
func NewList(separator string, standard ...string) *List {
	return &List{Separator: separator, text: strings.Join(standard, separator)}
}

// String returns the texts with separators between them.
func (l *List) String() string { return l.text }

// Set replaces the default, or adds to what was given before.
func (l *List) Set(text string) error {
	if l.set && text != "" {
		text = l.text + l.Separator + text
	}
	l.text, l.set = text, true
	return nil
}

// Texts returns the texts, without blanks around them and without empty ones. It is never nil.
func (l *List) Texts() []string {
	texts := []string{}
	for text := range strings.SplitSeq(l.text, l.Separator) {
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}
