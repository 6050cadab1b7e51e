// Package nearest finds what somebody probably meant by a name that does not exist.
package nearest

import "strings"

// Name returns the candidate that is most like name, or "" when none is alike
// enough to be a misspelling: a third of its letters, and at least one, may be
// added, missing, changed or exchanged with their neighbour (the optimal string
// alignment distance). Case does not count. Of two that are equally alike the
// first is returned. It looks at 10,000 candidates at most, and at none for a
// name of over 100 bytes.
func Name(name string, candidates []string) string {
	if name == "" || len(name) > maxBytes {
		return ""
	}
	best, at := "", max(1, len(name)/3)+1
	for _, candidate := range candidates[:min(len(candidates), maxCandidates)] {
		if n := len(candidate) - len(name); candidate == "" || n >= at || -n >= at {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < at {
			best, at = candidate, d
		}
	}
	return best
}

const (
	maxBytes      = 100
	maxCandidates = 10_000
)

// distance counts the edits between a and b, in bytes.
func distance(a, b string) int {
	older, previous, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, previous, row = previous, row, older
	}
	return previous[len(b)]
}
