package stream

import (
	"slices"

	"github.com/nanopack/pulse/projector/internal/lookup"
)

// matcher selects the series that a subscription holds.
type matcher struct {
	stat    string
	filters []tagFilter

	// The readings of a collector follow each other and share their tags.
	last  *lookup.Tag // of the tags that were compared last
	taken bool        // and whether they match
}

type tagFilter struct {
	key    string
	values []string
}

func newMatcher(r Request) matcher {
	m := matcher{stat: r.Stat}
	for key, values := range r.Filters {
		m.filters = append(m.filters, tagFilter{key, slices.Clone(values)})
	}
	return m
}

// all reports whether every series matches.
func (m *matcher) all() bool { return m.stat == "" && len(m.filters) == 0 }

// takes reports whether a series matches.
func (m *matcher) takes(s *spelled) bool {
	if m.stat != "" && m.stat != s.stat {
		return false
	}
	if len(m.filters) == 0 {
		return true
	}
	if tags := &s.tags[0]; m.last != tags { // there is always the host
		m.last, m.taken = tags, m.match(s.tags)
	}
	return m.taken
}

func (m *matcher) match(tags []lookup.Tag) bool {
	for _, f := range m.filters {
		value := ""
		if i := slices.IndexFunc(tags, func(t lookup.Tag) bool { return t.Key == f.key }); i >= 0 {
			value = tags[i].Value
		}
		if !slices.Contains(f.values, value) {
			return false
		}
	}
	return true
}
