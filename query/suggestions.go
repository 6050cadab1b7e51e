package query

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/projector/latest"
)

// didYouMean is the end of an error's text: what was probably meant by a name that does not exist,
// or "".
func didYouMean(name string, candidates []string) string {
	if like := nearest.Name(name, candidates); like != "" {
		return fmt.Sprintf(": did you mean %s?", like)
	}
	return ""
}

// hint says what was probably meant by a question that has no answer, by the names that were read
// lately: the stat, a filter or its value. It is "" when all of them are known, or nothing is
// alike.
func (s *Server) hint(stat string, fs filters, history bool) string {
	stats, keys := s.o.Latest.Stats(), s.o.Latest.TagKeys()
	if !slices.Contains(stats, stat) {
		if like := nearest.Name(stat, stats); like != "" {
			return "; did you mean " + like + "?"
		}
		return ""
	}
	reserved := []string{"verb"}
	if history {
		reserved = append(reserved, "start", "stop", "backfill")
	}
	for _, f := range fs {
		if slices.Contains(keys, f.key) || slices.Contains(f.values, "") {
			continue
		}
		if like := nearest.Name(f.key, slices.Concat(keys, reserved)); like != "" {
			return fmt.Sprintf("; did you mean %s instead of %s?", like, f.key)
		}
	}
	return s.valueHint(stat, fs)
}

// maxKnown bounds how many values of a tag are compared.
const maxKnown = 10_000

// valueHint is hint for the filters' values.
func (s *Server) valueHint(stat string, fs filters) string {
	known := make([]map[string]bool, len(fs))
	for i := range fs {
		known[i] = map[string]bool{}
	}
	s.o.Latest.Select(stat, nil, 0, func(r latest.Reading) {
		for i, f := range fs {
			for _, t := range r.Tags {
				if t.Key == f.key && len(known[i]) < maxKnown {
					known[i][t.Value] = true
				}
			}
		}
	})
	for i, f := range fs {
		candidates := slices.Sorted(maps.Keys(known[i]))
		for _, v := range f.values {
			if known[i][v] || v == "" {
				continue
			}
			if like := nearest.Name(v, candidates); like != "" {
				return fmt.Sprintf("; did you mean %s=%s?", f.key, like)
			}
		}
	}
	return ""
}

// nothingOf is nothing with a hint.
func (s *Server) nothingOf(stat string, sel selection, history bool, format string, args ...any) error {
	if s.o.Compat == Compat02 {
		return errNotFound02()
	}
	return s.nothing(format+"%s", append(args, s.hint(stat, sel.filters, history))...)
}

// routeHint is for a path that is no route.
func (s *Server) routeHint(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if path == "/edges" {
		return ": only a hub has edges (--hub-listen-address)"
	}
	var known []string
	for _, rt := range s.routes() {
		name, _, _ := strings.Cut(strings.TrimPrefix(rt.path, "/"), "/")
		if name == first { // the rest of the path is wrong, or a flag is missing
			return ""
		}
		if !rt.absent && !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	if like := nearest.Name(first, known); like != "" {
		return ": did you mean /" + like + "?"
	}
	return ""
}
