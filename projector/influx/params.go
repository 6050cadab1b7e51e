package influx

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/influxdata/influxql"
)

// Parse parses a statement and binds the parameters of a Query as literals, so that a value can
// only be a value. It accepts exactly one statement. Both stores call Parse first, so that a bad
// statement is an *Error with Kind Invalid whatever the server.
func Parse(statement string, params map[string]any) (*influxql.Query, map[string]any, error) {
	bound, err := bindParams(params)
	if err != nil {
		return nil, nil, err
	}
	p := influxql.NewParser(strings.NewReader(statement))
	p.SetParams(bound)
	q, err := p.ParseQuery()
	if err == nil && len(q.Statements) != 1 {
		err = fmt.Errorf("expected one statement, found %d", len(q.Statements))
	}
	if err != nil {
		return nil, nil, &Error{Op: "query", Kind: Invalid, Err: err}
	}
	return q, bound, nil
}

// bindParams checks the parameters of a Query and converts them to string, bool, int64 or float64.
// It refuses everything else, maps above all, because InfluxDB 1.8 reads {"identifier": ...} and
// {"regex": ...} as syntax.
func bindParams(params map[string]any) (map[string]any, error) {
	bound := make(map[string]any, len(params))
	for name, v := range params {
		switch v := v.(type) {
		case string, bool, int64:
			bound[name] = v
		case int:
			bound[name] = int64(v)
		case int32:
			bound[name] = int64(v)
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, invalidParam(name, "%v is no number in InfluxQL", v)
			}
			bound[name] = v
		case time.Time:
			bound[name] = v.UnixNano()
		default:
			return nil, invalidParam(name, "a %T cannot be bound: pass a string, bool, number or time", v)
		}
	}
	return bound, nil
}

func invalidParam(name, format string, args ...any) *Error {
	return &Error{Op: "query", Kind: Invalid, Err: fmt.Errorf("parameter %s: %s", name, fmt.Sprintf(format, args...))}
}

// encodeParams writes bound parameters as the JSON that the server reads. The server tells a float
// from an integer by the decimal point, and takes no exponent.
func encodeParams(bound map[string]any) (string, error) {
	wire := make(map[string]any, len(bound))
	for name, v := range bound {
		if f, ok := v.(float64); ok {
			s := strconv.FormatFloat(f, 'f', -1, 64)
			if !strings.Contains(s, ".") {
				s += ".0"
			}
			v = json.RawMessage(s)
		}
		wire[name] = v
	}
	text, err := json.Marshal(wire)
	return string(text), err
}
