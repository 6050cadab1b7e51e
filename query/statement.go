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
}

// statement is InfluxQL text with its bound parameters.
type statement struct {
	text   string
	params map[string]any
}

// aggregateStatement is the one place where a request becomes InfluxQL:
//
//	SELECT sum("cpu:sum") AS "c0" FROM "statistics"."one_week"."aggregate"
//	WHERE time >= 1 AND time < 2 AND ("host"::tag = $p0 OR "host"::tag = $p1) GROUP BY time(3600s) fill(none)
//
// Names are quoted identifiers, because InfluxDB 1.6 binds values only. Without "::tag", a filter
// with the name of a stat would be compared with the stat. from (inclusive) and to (exclusive) are
// ns since 1970. A step of 0 groups nothing. stored spells names and values as InfluxDB holds them.
func aggregateStatement(stat string, calls []call, fs filters, from, to int64, step time.Duration, stored func(string) string) (statement, error) {
	fields := make([]string, len(calls))
	for i, c := range calls {
		fields[i] = stored(stat + c.suffix)
	}
	fs = fs.spelled(stored)
	st := statement{params: make(map[string]any)}
	var b strings.Builder
	b.WriteString("SELECT ")
	for i, c := range calls {
		if i > 0 {
			b.WriteString(", ")
		}
		if c.fn == "" {
			fmt.Fprintf(&b, `%s AS "c%d"`, quote(fields[i]), i)
			continue
		}
		fmt.Fprintf(&b, `%s(%s) AS "c%d"`, c.fn, quote(fields[i]), i)
	}
	st.from(&b, fs, from, to)
	if step > 0 {
		fmt.Fprintf(&b, " GROUP BY time(%ds) fill(none)", int64(step/time.Second))
	}
	st.text = b.String()
	if err := st.check(fields, calls, fs); err != nil {
		return statement{}, err
	}
	return st, nil
}

// from writes the source of the rows, and the condition that selects them.
func (st statement) from(b *strings.Builder, fs filters, from, to int64) {
	fmt.Fprintf(b, " FROM %s WHERE time >= %d AND time < %d", influxnames.Windows, from, to)
	for _, f := range fs {
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
func (st statement) check(fields []string, calls []call, fs filters) error {
	sel, err := st.parse()
	if err != nil {
		return err
	}
	if len(sel.Fields) != len(calls) {
		return fmt.Errorf("query: %q is not the SELECT that was meant", st.text)
	}
	if err := st.checkSource(sel.Sources[0]); err != nil {
		return err
	}
	for i, c := range calls {
		column := sel.Fields[i].Expr
		if c.fn != "" {
			fn, ok := column.(*influxql.Call)
			if !ok || fn.Name != c.fn || len(fn.Args) != 1 {
				return fmt.Errorf("query: column %d of %q is not what was meant", i, st.text)
			}
			column = fn.Args[0]
		}
		if ref, ok := column.(*influxql.VarRef); !ok || ref.Val != fields[i] {
			return fmt.Errorf("query: column %d of %q is of another field", i, st.text)
		}
	}
	return checkCondition(st, sel.Condition, fs)
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

// checkSource returns an error unless the source is the aggregates.
func (st statement) checkSource(source influxql.Source) error {
	m, ok := source.(*influxql.Measurement)
	if !ok || m.Database != influxnames.Database || m.RetentionPolicy != influxnames.Aggregates || m.Name != influxnames.Aggregate ||
		m.Regex != nil || m.IsTarget || m.SystemIterator != "" {
		return fmt.Errorf("query: %q reads another source than the aggregates", st.text)
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
