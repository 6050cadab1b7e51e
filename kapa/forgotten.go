package kapa

import (
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// forgetRelay ends what the alerts know of a relay that will not come back. Who was notified that a
// group of the relay fires is notified that it ended, because no reading would ever end it. Groups
// that other relays may be in go on without the relay.
func (e *Evaluator) forgetRelay(r *codec.RelayEvent, now time.Time) error {
	var all []evaluation
	for _, w := range e.index.ordered {
		if host, ok := w.alert.Tags[hostTag]; ok && host != r.Relay {
			continue
		}
		ended := evaluation{watch: w, at: w.evaluated}
		for _, g := range w.groups {
			if c, ok := w.forgetRelay(g, r); ok {
				ended.changes = append(ended.changes, c)
			}
		}
		if len(ended.changes) > 0 {
			all = append(all, ended)
		}
	}
	return e.commit(all, now)
}

// forgetRelay returns the change of the group, if there is one. After a restart the record is read
// again, and the relay may have come back since. So only what is older than the record goes.
func (w *watch) forgetRelay(g *group, r *codec.RelayEvent) (change, bool) {
	c := change{group: g, state: g.state, at: r.Time}
	if r.Edge != "" {
		c.at = max(r.Time, g.state.Since) // the record may come late: nothing ends before it began
	}
	relay := relayKey(r.Key())
	host, prefix := g.host(&w.alert), relay+keySeparator
	if host != "" && host != relay {
		return c, false
	}
	if host != "" {
		w.clear(g)
	}
	if alone := g.state.From == relay && len(g.window.slots) == 0; r.Time > g.state.Born && (host != "" || alone) {
		c.finish(w, relayName(relay)+" was forgotten")
		return c, true
	}
	remain := false
	for key, last := range g.state.Seen {
		if strings.HasPrefix(key, prefix) {
			if last <= r.Time {
				c.over = append(c.over, key)
			} else {
				remain = true
			}
		}
	}
	// The next evaluation judges the relays that remain.
	if i, missed := slices.BinarySearch(c.state.Silent, relay); missed && !remain {
		c.state.Silent = slices.Delete(slices.Clone(c.state.Silent), i, i+1)
	}
	return c, len(c.over) > 0
}
