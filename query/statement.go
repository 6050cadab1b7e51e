package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/influxnames"
)

// call is one column of a statement: an InfluxQL function over a field of the stat. Both are ours,
// never the request's.
type call struct {
	fn     string // "" for the field itself, row by row
	suffix string // of the field's name, "" for the mean
	of     int    // the second argument of percentile, else 0
}

// statement is InfluxQL text with its bound parameters.
type statement struct {
	text   string
	params map[string]any
}

// question is what InfluxDB is asked about a stat: the rows of a range of time that have the tags of
// the filters, in slots of one length, and by groups of tags. The filters and by are spelled as
// InfluxDB holds them.
type question struct {
	stat     string
	verb     verb
	filters  filters
	by       []string
	from, to int64         // ns since 1970: [from, to)
	step     time.Duration // 0: row by row
	raw      bool          // the rows are the readings, not the windows
	// stored spells names of fields, and measurement those of measurements, as InfluxDB holds them.
	stored, measurement func(string) string
}

// between is the question for another range of time.
func (q question) between(from, to int64) question {
	q.from, q.to = from, to
	return q
}

// statement is the one place where a request becomes InfluxQL:
//
//	SELECT sum("cpu:sum") AS "c0" FROM "statistics"."one_week"."aggregate"
//	WHERE time >= 1 AND time < 2 AND ("host"::tag = $p0 OR "host"::tag = $p1) GROUP BY time(3600s), "rack" fill(none)
//
// Names are quoted identifiers, because InfluxDB 1.6 binds values only. Without "::tag", a filter
// with the name of a stat would be compared with the stat.
func (q question) statement(calls []call) (statement, error) {
	fields := make([]string, len(calls))
	for i, c := range calls {
		fields[i] = q.stored(q.stat + c.suffix)
	}
	st := statement{params: make(map[string]any)}
	var b strings.Builder
	b.WriteString("SELECT ")
	for i, c := range calls {
		if i > 0 {
			b.WriteString(", ")
		}
		switch {
		case c.fn == "":
			b.WriteString(quote(fields[i]))
		case c.of > 0:
			fmt.Fprintf(&b, `%s(%s, %d)`, c.fn, quote(fields[i]), c.of)
		default:
			fmt.Fprintf(&b, `%s(%s)`, c.fn, quote(fields[i]))
		}
		fmt.Fprintf(&b, ` AS "c%d"`, i)
	}
	st.from(&b, q)
	q.groupBy(&b)
	st.text = b.String()
	if err := st.check(q, fields, calls); err != nil {
		return statement{}, err
	}
	return st, nil
}

// source is where the rows are, quoted.
func (q question) source() string {
	if q.raw {
		return `"` + influxnames.Database + `"."` + influxnames.Raw + `".` + quote(q.measurement(q.stat))
	}
	return influxnames.Windows
}

// from writes the source of the rows, and the condition that selects them.
func (st statement) from(b *strings.Builder, q question) {
	fmt.Fprintf(b, " FROM %s WHERE time >= %d AND time < %d", q.source(), q.from, q.to)
	for _, f := range q.filters {
		b.WriteString(" AND (")
		for i, v := range f.values {
			if i > 0 {
				b.WriteString(" OR ")
			}
			name := "p" + strconv.Itoa(len(st.params))
			st.params[name] = v
			fmt.Fprintf(b, "%s::tag = $%s", quote(f.key), name)
		}
		b.WriteString(")")
	}
}

// groupBy writes the slots and the groups.
func (q question) groupBy(b *strings.Builder) {
	var groups []string
	if q.step > 0 {
		groups = append(groups, fmt.Sprintf("time(%ds)", int64(q.step/time.Second)))
	}
	for _, key := range q.by {
		groups = append(groups, quote(key))
	}
	if len(groups) > 0 {
		b.WriteString(" GROUP BY " + strings.Join(groups, ", "))
	}
	if q.step > 0 {
		b.WriteString(" fill(none)")
	}
}

// quote is influxql.QuoteIdent, but quotes every name: which words need quotes depends on the
// server's version.
func quote(name string) string {
	if q := influxql.QuoteIdent(name); strings.HasPrefix(q, `"`) {
		return q
	}
	return `"` + name + `"`
}

// check parses the text as the server will and compares the result with what was meant. It never
// fails for a name that passed checkName. It makes a mistake above, or in the quoting of a library,
// an error and never a statement.
func (st statement) check(q question, fields []string, calls []call) error {
	sel, err := st.parse()
	if err != nil {
		return err
	}
	if len(sel.Fields) != len(calls) {
		return fmt.Errorf("query: %q is not the SELECT that was meant", st.text)
	}
	if err := st.checkSource(q, sel.Sources[0]); err != nil {
		return err
	}
	if err := st.checkGroups(q, sel.Dimensions); err != nil {
		return err
	}
	for i, c := range calls {
		column := sel.Fields[i].Expr
		if c.fn != "" {
			fn, ok := column.(*influxql.Call)
			if !ok || fn.Name != c.fn || !slices.EqualFunc(fn.Args[min(1, len(fn.Args)):], c.more(), sameLiteral) {
				return fmt.Errorf("query: column %d of %q is not what was meant", i, st.text)
			}
			column = fn.Args[0]
		}
		if ref, ok := column.(*influxql.VarRef); !ok || ref.Val != fields[i] {
			return fmt.Errorf("query: column %d of %q is of another field", i, st.text)
		}
	}
	return checkCondition(st, sel.Condition, q.filters)
}

// more returns the arguments of the function after the field.
func (c call) more() []int64 {
	if c.of > 0 {
		return []int64{int64(c.of)}
	}
	return nil
}

func sameLiteral(e influxql.Expr, n int64) bool {
	literal, ok := e.(*influxql.IntegerLiteral)
	return ok && literal.Val == n
}

// parse returns the one SELECT that the text must be.
func (st statement) parse() (*influxql.SelectStatement, error) {
	parser := influxql.NewParser(strings.NewReader(st.text))
	parser.SetParams(st.params)
	q, err := parser.ParseQuery()
	if err != nil {
		return nil, fmt.Errorf("query: statement %q does not parse: %w", st.text, err)
	}
	if len(q.Statements) != 1 {
		return nil, fmt.Errorf("query: %q is %d statements", st.text, len(q.Statements))
	}
	sel, ok := q.Statements[0].(*influxql.SelectStatement)
	if !ok || sel.Target != nil || len(sel.Sources) != 1 {
		return nil, fmt.Errorf("query: %q is not the SELECT that was meant", st.text)
	}
	return sel, nil
}

// checkSource returns an error unless the source is the aggregates, or the readings of the stat.
func (st statement) checkSource(q question, source influxql.Source) error {
	policy, name := influxnames.Aggregates, influxnames.Aggregate
	if q.raw {
		policy, name = influxnames.Raw, q.measurement(q.stat)
	}
	m, ok := source.(*influxql.Measurement)
	if !ok || m.Database != influxnames.Database || m.RetentionPolicy != policy || m.Name != name ||
		m.Regex != nil || m.IsTarget || m.SystemIterator != "" {
		return fmt.Errorf("query: %q reads another source than was meant", st.text)
	}
	return nil
}

// checkGroups returns an error unless the groups are the slots and the tags of by.
func (st statement) checkGroups(q question, groups influxql.Dimensions) error {
	step, keys := groups.Normalize()
	if step != q.step || !slices.Equal(keys, q.by) || len(groups) != len(keys)+min(1, int(step)) {
		return fmt.Errorf("query: %q has other groups than were meant", st.text)
	}
	return nil
}

// checkCondition compares the leaves of the WHERE clause with the two times and the filters, in
// order.
func checkCondition(st statement, cond influxql.Expr, fs filters) error {
	var want []string
	for _, f := range fs {
		for _, v := range f.values {
			want = append(want, f.key+"\x00"+v)
		}
	}
	var got []string
	times := 0
	other := false
	influxql.WalkFunc(cond, func(n influxql.Node) {
		switch n := n.(type) {
		case *influxql.BinaryExpr:
			ref, ok := n.LHS.(*influxql.VarRef)
			if !ok {
				other = other || n.Op != influxql.AND && n.Op != influxql.OR
				return
			}
			value, isString := n.RHS.(*influxql.StringLiteral)
			switch {
			case isString && n.Op == influxql.EQ && ref.Type == influxql.Tag:
				got = append(got, ref.Val+"\x00"+value.Val)
			case ref.Val == "time" && (n.Op == influxql.GTE || n.Op == influxql.LT):
				times++
			default:
				other = true
			}
		case *influxql.ParenExpr, *influxql.VarRef, *influxql.StringLiteral, *influxql.IntegerLiteral:
		default:
			other = true
		}
	})
	if other || times != 2 || !slices.Equal(got, want) {
		return fmt.Errorf("query: the condition of %q is not what was meant", st.text)
	}
	return nil
}
