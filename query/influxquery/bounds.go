package influxquery

import (
	"errors"
	"strings"
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"
)

// These bound a request, whoever makes it.
const (
	maxText       = 256 << 10 // bytes of q
	maxNesting    = 200       // parentheses in parentheses: the parser's stack grows with them
	maxStatements = 100
	maxBuckets    = 100_000 // of GROUP BY time(), for each series
)

// boundText checks a text before it is parsed.
func boundText(text string) error {
	if len(text) > maxText {
		return bad("error parsing query: it is over %d bytes", maxText)
	}
	depth := 0
	for _, c := range []byte(text) {
		switch c {
		case '(':
			if depth++; depth > maxNesting {
				return bad("error parsing query: over %d parentheses in one another", maxNesting)
			}
		case ')':
			depth--
		}
	}
	return nil
}

// boundStatements checks how many statements there are, and how many buckets they ask for.
func boundStatements(statements influxql.Statements, now time.Time) error {
	if len(statements) > maxStatements {
		return bad("%d statements in one request: at most %d", len(statements), maxStatements)
	}
	for _, statement := range statements {
		if s, ok := statement.(*influxql.SelectStatement); ok {
			if err := boundBuckets(s, influxql.TimeRange{}, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// boundBuckets checks a SELECT within a range of time, and those inside it. Without a start the
// buckets begin at the first point; then maxValues is the bound.
func boundBuckets(s *influxql.SelectStatement, within influxql.TimeRange, now time.Time) error {
	_, span, err := influxql.ConditionExpr(s.Condition, &influxql.NowValuer{Now: now, Location: s.Location})
	if err != nil {
		return nil // the statement's own error
	}
	span = span.Intersect(within)
	if step := interval(s); step > 0 && !span.Min.IsZero() {
		until := now
		if !span.Max.IsZero() {
			until = span.Max
		}
		if n := int64(until.Sub(span.Min) / step); n > maxBuckets {
			return bad("max-select-buckets limit exceeded: (%d/%d)", n, maxBuckets)
		}
	}
	for _, source := range s.Sources {
		if sub, ok := source.(*influxql.SubQuery); ok {
			if err := boundBuckets(sub.Statement, span, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// interval is the step of GROUP BY time(); 0 without one.
func interval(s *influxql.SelectStatement) time.Duration {
	for _, d := range s.Dimensions {
		if call, ok := d.Expr.(*influxql.Call); ok && strings.EqualFold(call.Name, "time") && len(call.Args) > 0 {
			if step, ok := call.Args[0].(*influxql.DurationLiteral); ok {
				return step.Val
			}
		}
	}
	return 0
}

// errTooMuch ends a request whose answer has too many values.
var errTooMuch = errors.New("the answer is too large: ask for a shorter time or fewer series, GROUP BY a longer time, use LIMIT, or chunked=true")

// cells is how many values rows hold, where a long text counts as several.
func cells(rows []models.Row) int {
	n := 0
	for _, row := range rows {
		n += 4 + 4*len(row.Tags)
		for _, values := range row.Values {
			n += len(values)
			for _, v := range values {
				if s, ok := v.(string); ok {
					n += len(s) / 32
				}
			}
		}
	}
	return n
}
