package latest

import "github.com/nanopack/pulse/projector/internal/lookup"

// table holds the rows of one stat, side by side in memory, and an index of the rows by tag.
type table struct {
	rows []row
	// byTag has the only row with a tag, or ^i for those of lists[i]. Most tags name a host, which
	// has one row in a table.
	byTag map[tagID]int32
	lists [][]int32
}

// row holds the tags itself, so that a query does not follow two pointers for each row.
type row struct {
	time   int64
	value  float64
	slack  int64 // how much older than usual the reading may be, in ns: see slackOf
	tags   []Tag
	series *lookup.Series[struct{}, slot]
}

// outside reports whether the row is older than oldest, slack included, or newer than newest.
func (r *row) outside(oldest, newest int64) bool { return r.time+r.slack < oldest || r.time > newest }

// slot is the place of a series' row. Only the writer uses slots; queries use the tables.
type slot struct {
	table *table
	row   int32
}

func newTable(rows int) *table {
	return &table{rows: make([]row, 0, rows), byTag: make(map[tagID]int32)}
}

// add makes a row for a series, whose tags have the ids. The row has no reading yet.
func (t *table) add(s *lookup.Series[struct{}, slot], ids []tagID) {
	at := int32(len(t.rows))
	t.rows = append(t.rows, row{tags: s.Set.Tags, series: s})
	for _, id := range ids {
		switch first, known := t.byTag[id]; {
		case !known:
			t.byTag[id] = at
		case first >= 0:
			t.byTag[id] = ^int32(len(t.lists))
			t.lists = append(t.lists, []int32{first, at})
		default:
			t.lists[^first] = append(t.lists[^first], at)
		}
	}
	s.Data = slot{t, at}
}

// with returns the rows with a tag. one is memory for the answer.
func (t *table) with(id tagID, one *[1]int32) []int32 {
	switch first, known := t.byTag[id]; {
	case !known:
		return nil
	case first >= 0:
		one[0] = first
		return one[:]
	default:
		return t.lists[^first]
	}
}

// tagID numbers the tags, because a number takes less memory in each table than the tag.
type tagID uint32

// tagIDs are the tags of all series.
type tagIDs struct {
	used map[Tag]*usedTag
	keys map[string]int // how many tags have this key
	last tagID
}

type usedTag struct {
	id     tagID
	series int // how many series have the tag
}

// take appends the ids of a new series' tags to dst.
func (t *tagIDs) take(tags []Tag, dst []tagID) []tagID {
	for _, tag := range tags {
		u := t.used[tag]
		if u == nil {
			t.last++
			u = &usedTag{id: t.last}
			t.used[tag] = u
			t.keys[tag.Key]++
		}
		u.series++
		dst = append(dst, u.id)
	}
	return dst
}

// of appends the ids of a series' tags to dst.
func (t *tagIDs) of(tags []Tag, dst []tagID) []tagID {
	for _, tag := range tags {
		dst = append(dst, t.used[tag].id)
	}
	return dst
}

// drop gives the tags of a series up.
func (t *tagIDs) drop(tags []Tag) {
	for _, tag := range tags {
		u := t.used[tag]
		if u.series--; u.series > 0 {
			continue
		}
		delete(t.used, tag)
		if t.keys[tag.Key]--; t.keys[tag.Key] == 0 {
			delete(t.keys, tag.Key)
		}
	}
}
