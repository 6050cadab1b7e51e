package latest

import "github.com/nanopack/pulse/projector/internal/lookup"

// table holds the rows of one stat, side by side in memory, and an index of the rows by tag.
type table struct {
	rows  []row
	byTag map[Tag][]int32
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
	return &table{rows: make([]row, 0, rows), byTag: make(map[Tag][]int32)}
}

// add makes a row for a series. The row has no reading yet.
func (t *table) add(s *lookup.Series[struct{}, slot]) {
	at := int32(len(t.rows))
	t.rows = append(t.rows, row{tags: s.Set.Tags, series: s})
	for _, tag := range s.Set.Tags {
		t.byTag[tag] = append(t.byTag[tag], at)
	}
	s.Data = slot{t, at}
}
