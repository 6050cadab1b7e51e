package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/internal/wide"
)

// widePlan computes a mean or a sum from the windows' means, each scaled before they are added up:
// a float64 does not hold the sum itself, and perhaps not the :sum of a window. It takes InfluxDB
// several times as long, so it is for slots whose ordinary sums overflow.
type widePlan struct {
	verb    verb // mean or sum
	counted bool // rows have counts, and weigh by them
	raw     bool // the rows are readings, each of which counts as one
}

// plan is the plan of a wideStatement. Its calls say how its columns are joined.
func (p *widePlan) plan() plan {
	return plan{calls: []call{{fn: "sum"}, {fn: "sum"}, {fn: "min"}, {fn: "max"}}, fold: p.fold, scaled: p, raw: p.raw}
}

func (p widePlan) fold(c []float64) slot {
	if p.verb == "sum" {
		return slot{value: wide.Sum(c[0], true)}
	}
	sl := slot{value: wide.Mean(c[0], true, c[1], c[2], c[3])}
	if p.counted || p.raw {
		sl.sum, sl.weight = wide.Sum(c[0], true), c[1]
	}
	return sl
}

// notFinite reports whether err says that some number of InfluxDB's answer is not finite.
func notFinite(err error) bool {
	var e interface{ NotFinite() bool }
	return errors.As(err, &e) && e.NotFinite()
}

// leastCut is the size from which a total is not trusted: one of the sums in it may have been cut
// at MaxFloat64. Others may have brought the total down again, but hardly by more than the 16
// digits of a float64.
const leastCut = 1e291

// overflows reports whether a number in the rows is not finite, which the engine may show as null,
// or so large that sums in it may have been cut.
func overflows(rows []models.Row) bool {
	for _, row := range rows {
		for _, v := range row.Values {
			for _, cell := range v[min(1, len(v)):] {
				switch f := cell.(type) {
				case nil:
					return true
				case float64:
					if !(math.Abs(f) < leastCut) {
						return true
					}
				case json.Number:
					if n, ok := number(f); ok && math.Abs(n.float()) >= leastCut {
						return true
					}
				}
			}
		}
	}
	return false
}

// wideStatement is the statement of a widePlan: the scaled sum, the count, the least and the
// greatest mean.
//
//	SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT "cpu" AS "m",
//	"cpu" / 18446744073709551616.0 * "cpu:count" AS "s", "cpu:count" AS "n" FROM "statistics"."one_week"."aggregate"
//	WHERE ...) WHERE time >= 1 AND time < 2 GROUP BY time(3600s) fill(none)
func (q question) wideStatement(p widePlan) (statement, error) {
	fields := []string{q.stored(q.stat)}
	inner, outer := fmt.Sprintf(`%s AS "m", %[1]s / %.1f`, quote(fields[0]), 1/wide.Scale), "count"
	if p.counted {
		fields = append(fields, q.stored(q.stat+influxnames.Count))
		inner += fmt.Sprintf(` * %s AS "s", %[1]s AS "n"`, quote(fields[1]))
		outer = "sum"
	} else {
		inner += fmt.Sprintf(` AS "s", %s AS "n"`, quote(fields[0]))
	}
	st := statement{params: make(map[string]any)}
	var b strings.Builder
	fmt.Fprintf(&b, `SELECT sum("s") AS "c0", %s("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT %s`, outer, inner)
	st.from(&b, q)
	fmt.Fprintf(&b, ") WHERE time >= %d AND time < %d", q.from, q.to)
	q.groupBy(&b)
	st.text = b.String()
	return st, st.checkWide(q, fields)
}

// checkWide is check for a wideStatement.
func (st statement) checkWide(q question, fields []string) error {
	sel, err := st.parse()
	if err != nil {
		return err
	}
	sub, ok := sel.Sources[0].(*influxql.SubQuery)
	if !ok || sub.Statement.Target != nil || len(sub.Statement.Sources) != 1 || len(sel.Fields) != 4 || len(sub.Statement.Fields) != 3 {
		return fmt.Errorf("query: %q is not the SELECT that was meant", st.text)
	}
	if err := st.checkSource(q, sub.Statement.Sources[0]); err != nil {
		return err
	}
	if err := st.checkGroups(q, sel.Dimensions); err != nil {
		return err
	}
	refs := map[string]bool{}
	influxql.WalkFunc(sub.Statement.Fields, func(n influxql.Node) {
		switch n := n.(type) {
		case *influxql.VarRef:
			refs[n.Val] = true
		case *influxql.Call, *influxql.Wildcard, *influxql.RegexLiteral:
			ok = false
		}
	})
	for _, f := range fields {
		ok = ok && refs[f]
	}
	if !ok || len(refs) != len(fields) {
		return fmt.Errorf("query: %q is of other fields", st.text)
	}
	if err := checkCondition(st, sel.Condition, nil); err != nil {
		return err
	}
	return checkCondition(st, sub.Statement.Condition, q.filters)
}
