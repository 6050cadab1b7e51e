package kapa

import (
	"fmt"
	"maps"
	"strings"
)

// change is a group's next state, before it is written.
type change struct {
	group     *group
	state     groupState
	at        int64
	over      []string // collectors that the deadman need not remember any more
	end       bool     // the group is not remembered any more
	announced bool
	body      []byte // to post, or nil
}

// announce makes the post of a change, and the state that says that it was made.
func (c *change) announce(w *watch) {
	switch {
	case len(c.state.Silent) > 0:
		c.post(w, "none for "+w.alert.Deadman.String()+" from "+silence(c.state.Silent))
	case c.state.Mean != nil:
		c.post(w, fmt.Sprint(*c.state.Mean))
	default:
		c.post(w, "none")
	}
}

// finish ends the group. Who was notified that it fires is notified that it is over, and why.
func (c *change) finish(w *watch, why string) {
	s := &c.state
	was := *s
	*s = groupState{Since: c.at, Born: c.at, Announced: was.Announced, Began: was.Began}
	c.end, c.over = true, nil
	for key := range was.Seen {
		c.over = append(c.over, key)
	}
	s.Seen, s.Removed = was.Seen, was.Removed
	if was.Announced != "" {
		c.post(w, "none, "+why)
	}
}

// drops reports whether the state file need not have the group any more.
func (c *change) drops(w *watch) bool { return c.end || !w.deadman && !c.state.fires() }

// writes reports whether the state file must have the group as it is now. For a group without news,
// the time of its last reading is written now and then only. After a restart silence begins again,
// so the time serves only to forget the group some day.
func (c *change) writes(w *watch) bool {
	if c.drops(w) {
		return false
	}
	g, is, was := c.group, &c.state, &c.group.state
	return !g.stored || g.dirty || len(c.over) > 0 || c.announced ||
		is.Beyond != was.Beyond || is.Level != was.Level || len(is.Silent) != len(was.Silent) ||
		is.Mean != nil && len(g.window.slots) == 0 && (g.keptMean == nil || *g.keptMean != *is.Mean) ||
		is.Last > g.kept && c.at-g.kept >= int64(refreshEvery)
}

// kept is the state without what is over.
func (c *change) kept() groupState {
	s := c.state
	if len(c.over) > 0 {
		s.Seen, s.Removed = without(s.Seen, c.over), without(s.Removed, c.over)
	}
	return s
}

func without[V any](all map[string]V, keys []string) map[string]V {
	left := maps.Clone(all)
	for _, key := range keys {
		delete(left, key)
	}
	return left
}

// few is how many names of a kind a text has.
const few = 5

// list names a few.
func list(names []string) string {
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
