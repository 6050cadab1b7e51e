package query

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"
)

// database evaluates the statements of this package over rows and readings in memory. It is a second
// implementation of InfluxDB's answers, written from InfluxDB's documentation. embedded_test.go
// compares it with the real engine.
type database struct {
	rows     []aggregateRow            // of the windows
	readings map[string][]aggregateRow // by stat
}

type aggregateRow struct {
	time   int64
	tags   map[string]string
	fields map[string]float64
}

// addWindow stores the aggregates of one window's readings, in the form that the projector writes.
func (d *database) addWindow(at time.Time, tags map[string]string, stat string, readings ...float64) {
	row := aggregateRow{at.UnixNano(), tags, map[string]float64{
		stat + ":min": math.Inf(1), stat + ":max": math.Inf(-1), stat + ":last": readings[len(readings)-1],
		stat + ":count": float64(len(readings)),
	}}
	for _, v := range readings {
		row.fields[stat+":sum"] += v
		row.fields[stat+":min"] = min(row.fields[stat+":min"], v)
		row.fields[stat+":max"] = max(row.fields[stat+":max"], v)
	}
	row.fields[stat] = row.fields[stat+":sum"] / float64(len(readings))
	d.rows = append(d.rows, row)
}

// addReading stores a single reading.
func (d *database) addReading(at int64, tags map[string]string, stat string, value float64) {
	if d.readings == nil {
		d.readings = map[string][]aggregateRow{}
	}
	d.readings[stat] = append(d.readings[stat], aggregateRow{at, tags, map[string]float64{stat: value}})
}

// addOld stores a row in the form of Pulse 0.2.
func (d *database) addOld(at time.Time, tags map[string]string, stat string, mean float64) {
	d.rows = append(d.rows, aggregateRow{at.UnixNano(), tags, map[string]float64{stat: mean}})
}

func (d *database) query(ctx context.Context, text string, params map[string]any) ([]models.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := influxql.NewParser(strings.NewReader(text))
	p.SetParams(params)
	q, err := p.ParseQuery()
	if err != nil {
		return nil, err
	}
	switch st := q.Statements[0].(type) {
	case *influxql.ShowFieldKeysStatement:
		return d.names("fieldKey", func(r aggregateRow) []string { return slices.Collect(maps.Keys(r.fields)) }), nil
	case *influxql.ShowTagKeysStatement:
		return d.names("tagKey", func(r aggregateRow) []string { return slices.Collect(maps.Keys(r.tags)) }), nil
	case *influxql.ShowTagValuesStatement:
		key := st.TagKeyExpr.(*influxql.StringLiteral).Val
		return d.names("value", func(r aggregateRow) []string {
			if r.tags[key] == "" || !holds(st.Condition, r) {
				return nil
			}
			return []string{r.tags[key]}
		}), nil
	case *influxql.SelectStatement:
		return d.selectRows(st)
	}
	return nil, fmt.Errorf("unexpected statement %q", text)
}

func (d *database) names(column string, of func(aggregateRow) []string) []models.Row {
	all := map[string]bool{}
	for _, r := range d.rows {
		for _, n := range of(r) {
			all[n] = true
		}
	}
	if len(all) == 0 {
		return nil
	}
	row := models.Row{Name: "aggregate", Columns: []string{column}}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		row.Values = append(row.Values, []any{n})
	}
	return []models.Row{row}
}

// selectRows answers with a row for each group of tags.
func (d *database) selectRows(st *influxql.SelectStatement) ([]models.Row, error) {
	interval, err := st.GroupByInterval()
	if err != nil {
		return nil, err
	}
	_, by := st.Dimensions.Normalize()
	from := st.Sources[0].(*influxql.Measurement)
	source := d.readings[from.Name]
	if from.RetentionPolicy == "one_week" {
		source = d.rows
	}
	groups := map[string][]aggregateRow{}
	for _, r := range source {
		if holds(st.Condition, r) {
			name := groupOf(by, func(key string) string { return r.tags[key] })
			groups[name] = append(groups[name], r)
		}
	}
	var rows []models.Row
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		row := models.Row{Name: from.Name, Columns: []string{"time"}}
		for _, f := range st.Fields {
			row.Columns = append(row.Columns, f.Alias)
		}
		for i, value := range groupValues(by, name) {
			if row.Tags == nil {
				row.Tags = map[string]string{}
			}
			row.Tags[by[i]] = value
		}
		if interval == 0 {
			row.Values = selectEach(st, groups[name])
		} else {
			row.Values = selectSlots(st, int64(interval), groups[name])
		}
		if len(row.Values) > 0 {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// selectSlots applies the functions slot by slot.
func selectSlots(st *influxql.SelectStatement, interval int64, rows []aggregateRow) (all [][]any) {
	slots := map[int64][]aggregateRow{}
	for _, r := range rows {
		at := r.time - r.time%interval
		slots[at] = append(slots[at], r)
	}
	for _, at := range slices.Sorted(maps.Keys(slots)) {
		values := []any{at}
		any := false
		for _, f := range st.Fields {
			call := f.Expr.(*influxql.Call)
			var s []sample
			for _, r := range slots[at] {
				if v, ok := r.fields[call.Args[0].(*influxql.VarRef).Val]; ok {
					s = append(s, sample{r.time, v})
				}
			}
			name := call.Name
			if name == "percentile" {
				name = fmt.Sprint("p", call.Args[1])
			}
			any = any || len(s) > 0
			values = append(values, apply(name, s))
		}
		if any { // fill(none)
			all = append(all, values)
		}
	}
	return all
}

// selectEach returns a field of each row.
func selectEach(st *influxql.SelectStatement, rows []aggregateRow) (all [][]any) {
	for _, r := range rows {
		if v, ok := r.fields[st.Fields[0].Expr.(*influxql.VarRef).Val]; ok {
			all = append(all, []any{r.time, v})
		}
	}
	slices.SortStableFunc(all, func(a, b []any) int { return cmp.Compare(a[0].(int64), b[0].(int64)) })
	return all
}

// apply applies a function to the samples, in plain loops; nil stands for null.
func apply(fn string, s []sample) any {
	if len(s) == 0 {
		return nil
	}
	values := make([]float64, len(s))
	total := 0.0
	for i := range s {
		values[i] = s[i].value
		total += s[i].value
	}
	slices.Sort(values)
	n := float64(len(s))
	pick := func(better func(a, b sample) bool) any {
		best := s[0]
		for _, x := range s {
			if better(x, best) || x.time == best.time && x.value > best.value {
				best = x
			}
		}
		return best.value
	}
	switch fn {
	case "sum":
		return total
	case "count":
		return int64(len(s))
	case "mean":
		return total / n
	case "min":
		return values[0]
	case "max":
		return values[len(values)-1]
	case "spread":
		return values[len(values)-1] - values[0]
	case "first":
		return pick(func(a, b sample) bool { return a.time < b.time })
	case "last":
		return pick(func(a, b sample) bool { return a.time > b.time })
	case "p50", "p90", "p95", "p99": // the reading at the rounded rank
		var percent int
		fmt.Sscanf(fn, "p%d", &percent)
		if i := int(math.Floor(n*float64(percent)/100+0.5)) - 1; i >= 0 {
			return values[i]
		}
		return nil
	case "median":
		return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
	case "stddev":
		if len(s) < 2 {
			return nil
		}
		sq := 0.0
		for _, v := range values {
			sq += (v - total/n) * (v - total/n)
		}
		return math.Sqrt(sq / (n - 1))
	case "mode":
		type seen struct {
			n     int
			first int64
		}
		counts := map[float64]seen{}
		for _, x := range s {
			c, ok := counts[x.value]
			if !ok || x.time < c.first {
				c.first = x.time
			}
			c.n++
			counts[x.value] = c
		}
		best := values[0]
		for v, c := range counts {
			b := counts[best]
			if c.n > b.n || c.n == b.n && (c.first < b.first || c.first == b.first && v < best) {
				best = v
			}
		}
		return best
	}
	panic("unknown function " + fn)
}

// holds reports whether a row satisfies the WHERE clause.
func holds(e influxql.Expr, r aggregateRow) bool {
	switch e := e.(type) {
	case *influxql.ParenExpr:
		return holds(e.Expr, r)
	case *influxql.BinaryExpr:
		switch e.Op {
		case influxql.AND:
			return holds(e.LHS, r) && holds(e.RHS, r)
		case influxql.OR:
			return holds(e.LHS, r) || holds(e.RHS, r)
		}
		ref := e.LHS.(*influxql.VarRef)
		switch rhs := e.RHS.(type) {
		case *influxql.IntegerLiteral:
			return e.Op == influxql.GTE && r.time >= rhs.Val || e.Op == influxql.LT && r.time < rhs.Val
		case *influxql.StringLiteral:
			return r.tags[ref.Val] == rhs.Val
		}
	}
	panic(fmt.Sprintf("unexpected condition %s", e))
}
