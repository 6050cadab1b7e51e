package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/migrations"
)

// An entry is a record of a relay in a journal, as an edge and its hub must both have it.
type entry struct {
	seq   uint64       // in the journal of the edge
	text  string       // the stored form, without what a hub adds
	event *codec.Event // with the name of the edge; nil for a relay event
}

// entriesOf reads the journal of a stopped server. The entries are by edge, "" for the server's own
// relays, and in the order of the journal.
func entriesOf(t *testing.T, dir string) map[string][]entry {
	t.Helper()
	all := make(map[string][]entry)
	readRecords(t, dir, func(r *journal.Record) {
		switch {
		case r.Event != nil:
			e := codec.Pack([]codec.Event{*r.Event})[0]
			seq, edge := r.Seq, e.Edge
			if edge != "" {
				seq = uint64(e.Origin)
			}
			e.Edge, e.Origin, e.Past = "", 0, false
			text, err := codec.EncodeEvent(nil, &e)
			if err != nil {
				t.Errorf("record %d: %v", r.Seq, err)
			}
			e.Edge = edge
			all[edge] = append(all[edge], entry{seq, string(text), &e})
		case r.Relay != nil && r.Relay.Kind != codec.RelaySkipped:
			e := *r.Relay
			seq, edge := r.Seq, e.Edge
			if edge != "" {
				seq = uint64(e.Origin)
			}
			e.Edge, e.Origin = "", 0
			all[edge] = append(all[edge], entry{seq, string(codec.EncodeRelayEvent(nil, &e)), nil})
		}
	}, func(gap *journal.GapError) { t.Logf("%s: %v", filepath.Base(dir), gap) })
	return all
}

// ownEntries are those of an edge's own journal.
func ownEntries(t *testing.T, edge, dir string) []entry {
	t.Helper()
	list := entriesOf(t, dir)[""]
	for i := range list {
		if e := list[i].event; e != nil {
			e.Edge = edge
		}
	}
	return list
}

// countOf calculates what InfluxDB should hold of entries.
func countOf(t *testing.T, c *count, entries []entry) {
	t.Helper()
	polls := make(map[string]map[float64]bool)
	for _, e := range entries {
		if e.event != nil {
			c.add(t, e.event, polls)
		}
	}
}

func newCount() *count {
	return &count{raw: make(map[string]float64), rows: make(map[string]aggregates)}
}

// compareEntries returns what a hub does not have as its edge has it, "" if there is nothing: every
// entry once, in the order of the edge, with the same content.
func compareEntries(hub, edge []entry) string {
	same := func(a, b entry) bool { return a.seq == b.seq && a.text == b.text }
	if slices.EqualFunc(hub, edge, same) {
		return ""
	}
	left := make(map[uint64][]string) // of the edge, which the hub does not have
	for _, e := range edge {
		left[e.seq] = append(left[e.seq], e.text)
	}
	var tooMuch, changed, missing int
	for _, e := range hub {
		if i := slices.Index(left[e.seq], e.text); i >= 0 {
			left[e.seq] = slices.Delete(left[e.seq], i, i+1)
		} else if len(left[e.seq]) > 0 {
			changed++
			left[e.seq] = left[e.seq][1:]
		} else {
			tooMuch++
		}
	}
	for _, texts := range left {
		missing += len(texts)
	}
	at := 0
	for at < len(hub) && at < len(edge) && same(hub[at], edge[at]) {
		at++
	}
	var lines []string
	for _, side := range []struct {
		name string
		list []entry
	}{{"hub", hub}, {"edge", edge}} {
		for _, e := range side.list[at:min(at+2, len(side.list))] {
			lines = append(lines, fmt.Sprintf("%s %d %.150s", side.name, e.seq, e.text))
		}
	}
	if missing+tooMuch+changed == 0 {
		lines = append(lines, "only the order differs")
	}
	return fmt.Sprintf("the hub has %d entries of %d: %d are missing, %d are too much, %d have another content; the first that differs is entry %d:\n%s",
		len(hub), len(edge), missing, tooMuch, changed, at+1, strings.Join(lines, "\n"))
}

// copyAsHub does what a hub does with the journal of an edge, with the change of a test.
func copyAsHub(t *testing.T, edge, from, to string, change func([]journal.Record) []journal.Record) {
	t.Helper()
	list := withJournal(t, from, func(j *journal.Journal) (list []journal.Record) {
		err := j.Range(t.Context(), journal.Span{First: 1, Last: math.MaxUint64}, func(records []journal.Record, _ *journal.GapError) error {
			for _, r := range records {
				if r.Event != nil {
					e := codec.Pack([]codec.Event{*r.Event})[0]
					e.Edge, e.Origin = edge, int64(r.Seq)
					list = append(list, journal.Record{Event: &e})
				} else {
					e := *r.Relay
					e.Edge, e.Origin = edge, int64(r.Seq)
					list = append(list, journal.Record{Relay: &e})
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	})
	withJournal(t, to, func(j *journal.Journal) []journal.Record {
		list = change(list)
		if n, err := j.AppendInOrder(t.Context(), list); n != len(list) || err != nil {
			t.Fatal(n, err)
		}
		return nil
	})
}

// withJournal opens the journal of a data dir for do.
func withJournal(t *testing.T, dir string, do func(*journal.Journal) []journal.Record) []journal.Record {
	t.Helper()
	state, err := migrations.Open(dir, migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dir, "journal"), Marker: journal.BoltMarker(state.DB)})
	if err != nil {
		t.Fatal(err)
	}
	list := do(j)
	if err := errors.Join(j.Close(context.Background()), state.Close()); err != nil {
		t.Fatal(err)
	}
	return list
}

// The comparison of a hub with its edges finds whatever can be wrong.
func TestHubComparison(t *testing.T) {
	edge := t.TempDir()
	withJournal(t, edge, func(j *journal.Journal) []journal.Record {
		var list []journal.Record
		for i := range 100 {
			if i%10 == 3 {
				list = append(list, journal.Record{Relay: &codec.RelayEvent{Relay: "web1", Time: int64(i + 1), Kind: codec.RelayAdded, Collector: "c"}})
				continue
			}
			list = append(list, journal.Record{Event: &codec.Event{Relay: "web1", Time: int64(i + 1), Collectors: []codec.Collector{
				{Name: "c", Stats: []codec.Stat{{ID: "stat_0", Value: float64(i)}}}}}})
		}
		if n, err := j.AppendInOrder(t.Context(), list); n != len(list) || err != nil {
			t.Fatal(n, err)
		}
		return nil
	})
	want := ownEntries(t, "ams1", edge)
	for name, c := range map[string]struct {
		change func([]journal.Record) []journal.Record
		says   string // "": nothing
	}{
		"nothing": {func(l []journal.Record) []journal.Record { return l }, ""},
		"what a hub may change": {func(l []journal.Record) []journal.Record {
			l[7].Event.Past = true
			return l
		}, ""},
		"missing":       {func(l []journal.Record) []journal.Record { return slices.Delete(l, 40, 41) }, "1 are missing, 0 are too much, 0 have another"},
		"missing last":  {func(l []journal.Record) []journal.Record { return l[:99] }, "1 are missing, 0 are too much"},
		"missing relay": {func(l []journal.Record) []journal.Record { return slices.Delete(l, 3, 4) }, "1 are missing, 0 are too much"},
		"doubled":       {func(l []journal.Record) []journal.Record { return slices.Insert(l, 50, l[49]) }, "0 are missing, 1 are too much"},
		"doubled later": {func(l []journal.Record) []journal.Record { return append(l, l[10:20]...) }, "0 are missing, 10 are too much"},
		"changed": {func(l []journal.Record) []journal.Record {
			l[60].Event.Collectors[0].Stats[0].Value++
			return l
		}, "0 are missing, 0 are too much, 1 have another content"},
		"another number": {func(l []journal.Record) []journal.Record {
			l[60].Event.Origin = 1000
			return l
		}, "1 are missing, 1 are too much"},
		"another edge": {func(l []journal.Record) []journal.Record {
			l[60].Event.Edge = "fra1"
			return l
		}, "1 are missing, 0 are too much"},
		"order": {func(l []journal.Record) []journal.Record {
			l[60], l[61] = l[61], l[60]
			return l
		}, "only the order differs"},
	} {
		t.Run(name, func(t *testing.T) {
			hub := t.TempDir()
			copyAsHub(t, "ams1", edge, hub, c.change)
			got := compareEntries(entriesOf(t, hub)["ams1"], want)
			if !strings.Contains(got, c.says) || c.says == "" && got != "" {
				t.Errorf("it says %q, want %q", got, c.says)
			}
		})
	}
}

// compareHub compares the journal and the InfluxDB of a stopped hub with what its edges have in their
// journals, and with its own relays.
func compareHub(t *testing.T, hubDir string, edges map[string][]entry) {
	t.Helper()
	has := entriesOf(t, hubDir)
	want := newCount()
	for name, list := range edges {
		if text := compareEntries(has[name], list); text != "" {
			t.Errorf("%s: %s", name, text)
		}
		countOf(t, want, list)
	}
	for name := range has {
		if _, known := edges[name]; !known && name != "" {
			t.Errorf("the hub has %d entries of %s, which is none of the edges", len(has[name]), name)
		}
	}
	countOf(t, want, has[""])
	compareWithInflux(t, hubDir, want)
}
