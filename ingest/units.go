package ingest

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/nanopack/pulse/relaywire"
)

// units are what the values of a relay's stats are in, guarded by its relay's mu. The text has the
// form of a units line's arguments, sorted by stat. Nearly all relays of a fleet say the same, and
// share one text.
type units struct {
	text unique.Handle[string]
	// said is whether the relay has said units on its connection. What it said on an earlier one
	// holds until then.
	said bool
}

var noUnits = unique.Make("")

// with returns u with more units, in place of those that it had for the same stats. It reports false
// when these are too many.
func (u units) with(items iter.Seq2[[]byte, []byte], limit int) (units, bool) {
	all := make(map[string]string)
	if u.said {
		all = parseUnits(u.text.Value())
	}
	for stat, unit := range items {
		all[string(stat)] = string(unit)
	}
	var b strings.Builder
	for _, stat := range slices.Sorted(maps.Keys(all)) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(stat + ":" + all[stat])
	}
	return units{text: unique.Make(b.String()), said: true}, len(all) <= limit
}

// parseUnits returns the units of a text by stat. A text that cannot be read, which came from the
// state file, has none.
func parseUnits(text string) map[string]string {
	all := make(map[string]string)
	items, err := relaywire.ParseUnits([]byte(text))
	if err != nil {
		return all
	}
	for stat, unit := range items {
		all[string(stat)] = string(unit)
	}
	return all
}

// setUnits takes what the relay says on the connection c. It returns false when these are too many.
func (r *relay) setUnits(c *conn, items iter.Seq2[[]byte, []byte]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != c {
		return true // replaced meanwhile: what it says no longer counts
	}
	u, ok := r.units.with(items, r.env.Limits.Series)
	if !ok {
		return false
	}
	if u.text != r.units.text {
		r.env.changes.add(r)
	}
	r.units = u
	return true
}

func (r *relay) unitsText() unique.Handle[string] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.units.text
}

// units does what a units line asks for. It returns false when the session is to end.
func (s *session) units(r *relay, args []byte) bool {
	items, err := relaywire.ParseUnits(args)
	why := "units: too many: a relay may have " + strconv.Itoa(s.env.Limits.Series)
	switch {
	case err != nil:
		why = "units: " + err.Error()
	case r.setUnits(s.conn, items):
		return true
	}
	s.env.m.denied.WithLabelValues(deniedUnits).Inc()
	s.env.log.WarnRarely("bad units", "a relay's units were refused", "relay", r.id, "error", why)
	return s.complain(why)
}

// Units returns what the values of stats are in, by stat, as relays that are connected or remembered
// say. Where they differ it is what most of them say.
func (srv *Server) Units() map[string]string {
	texts := make(map[unique.Handle[string]]int)
	for _, r := range srv.registry.all() {
		texts[r.unitsText()]++
	}
	votes := make(map[string]map[string]int)
	for text, relays := range texts {
		for stat, unit := range parseUnits(text.Value()) {
			if votes[stat] == nil {
				votes[stat] = make(map[string]int)
			}
			votes[stat][unit] += relays
		}
	}
	all := make(map[string]string, len(votes))
	for stat, said := range votes {
		all[stat] = slices.MaxFunc(slices.Collect(maps.Keys(said)), func(a, b string) int {
			return cmp.Or(cmp.Compare(said[a], said[b]), cmp.Compare(b, a))
		})
	}
	return all
}
