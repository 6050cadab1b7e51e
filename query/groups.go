package query

import (
	"fmt"
	"strings"
)

// maxSeries is how many groups an answer may have.
const maxSeries = 1000

// oneGroup is the group of all rows where nothing is grouped by tags.
const oneGroup = ""

// grouped holds the slots (or what they are made of) of each group, in order of time. A group is
// named by groupOf. No group is empty.
type grouped[T any] map[string][]T

// groupOf names the group that a series belongs to: by its values of the tags.
func groupOf(by []string, value func(key string) string) string {
	switch len(by) {
	case 0:
		return oneGroup
	case 1:
		return value(by[0])
	}
	var b strings.Builder
	for i, key := range by {
		if i > 0 {
			b.WriteByte(0) // InfluxDB holds no value with a control character
		}
		b.WriteString(value(key))
	}
	return b.String()
}

// groupValues returns the values of the tags that the name of a group is made of.
func groupValues(by []string, group string) []string {
	if len(by) == 0 {
		return nil
	}
	return strings.SplitN(group, "\x00", len(by))
}

// then appends what is later to each group.
func (g grouped[T]) then(later grouped[T]) grouped[T] {
	if len(g) == 0 {
		return later
	}
	for group, some := range later {
		g[group] = append(g[group], some...)
	}
	return g
}

func errTooManySeries(by []string) error {
	return badRequest("by %s there are more than %d series, which is the most of one answer: add filters, or group by other tags",
		strings.Join(by, ","), maxSeries)
}

func errTooManyPoints(series int, points int64) error {
	return badRequest("%s are more than the %d of one answer: use a longer step, less time or fewer series",
		fmt.Sprintf("%d points of %d series", points*int64(series), series), maxPoints)
}
