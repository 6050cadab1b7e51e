// Package nearest finds the existing name that somebody probably meant when a name does not exist.
package nearest

import "strings"

// Name returns the candidate that is most like name, or "" if no candidate is similar enough. A
// candidate is similar enough if it differs from name by at most a third of name's letters, and by
// at least one letter. A letter may be added, missing, changed or exchanged with its neighbour (the
// optimal string alignment distance). Case does not count. Of two equally similar candidates Name
// returns the first. Name compares at most 10,000 candidates. For a name of more than 100 bytes it
// returns "".
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
