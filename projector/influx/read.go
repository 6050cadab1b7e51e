package influx

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/cut"
)

// ReadRequest is a list of parsed statements that only read.
type ReadRequest struct {
	Statements influxql.Statements // belong to the store from the call on, which may change them
	Database   string              // of sources that name none; may be empty
	Policy     string              // of sources that name none; empty means the database's default
	ChunkRows  int                 // rows of a series in one ReadResult, at most
}

// ReadResult is a part of the answer to a statement, in the form of InfluxDB 1.x. Times are
// time.Time. Other numbers are float64, int64 or json.Number, the rest are string, bool or nil.
type ReadResult struct {
	Statement int           `json:"statement_id"`
	Series    []models.Row  `json:"series,omitempty"`
	Messages  []ReadMessage `json:"messages,omitempty"`
	Partial   bool          `json:"partial,omitempty"` // more of the statement's answer follows
	Err       string        `json:"error,omitempty"`   // why the statement failed
}

// ReadMessage is what InfluxDB says beside the rows.
type ReadMessage struct {
	Level string `json:"level"`
	Text  string `json:"text"`
}

// maxStatement is how many bytes of a statement are repeated in an error.
const maxStatement = 200

// Render returns statements as text that means the same, and the parameters of the text. Numbers
// become parameters, because influxql writes three digits of them. The text is parsed again and
// compared with the statements, so that a server never gets anything that was not checked. The
// error says that a statement has no such text.
func Render(statements influxql.Statements) (text string, params map[string]any, err error) {
	params = make(map[string]any)
	var texts []string
	for _, statement := range statements {
		replaceExprs(statement, func(e influxql.Expr) influxql.Expr {
			n, ok := e.(*influxql.NumberLiteral)
			if !ok {
				return e
			}
			name := "n" + strconv.Itoa(len(params))
			params[name] = n.Val
			return &influxql.BoundParameter{Name: name}
		})
		texts = append(texts, statement.String())
		replaceExprs(statement, func(e influxql.Expr) influxql.Expr {
			if b, ok := e.(*influxql.BoundParameter); ok {
				if v, ours := params[b.Name].(float64); ours {
					return &influxql.NumberLiteral{Val: v}
				}
			}
			return e
		})
	}
	text = strings.Join(texts, "; ")
	p := influxql.NewParser(strings.NewReader(text))
	p.SetParams(params)
	again, err := p.ParseQuery()
	if err != nil || len(again.Statements) != len(statements) {
		return "", nil, fmt.Errorf("the statement cannot be passed on: %s", cut.Text(text, maxStatement))
	}
	for i, statement := range again.Statements {
		if !reflect.DeepEqual(statement, statements[i]) {
			return "", nil, fmt.Errorf("the statement cannot be passed on exactly: %s", cut.Text(texts[i], maxStatement))
		}
	}
	return text, params, nil
}

// replaceExprs replaces the expressions of a statement, leaves first, and makes fill(1.0) fill(1),
// which means the same and is what influxql writes.
func replaceExprs(statement influxql.Statement, replace func(influxql.Expr) influxql.Expr) {
	in := func(e *influxql.Expr) {
		if *e != nil {
			*e = influxql.RewriteExpr(*e, replace)
		}
	}
	switch s := statement.(type) {
	case *influxql.SelectStatement:
		for _, f := range s.Fields {
			in(&f.Expr)
		}
		for _, d := range s.Dimensions {
			in(&d.Expr)
		}
		in(&s.Condition)
		if v, ok := s.FillValue.(float64); ok && v == float64(int64(v)) {
			s.FillValue = int64(v)
		}
		for _, source := range s.Sources {
			if sub, ok := source.(*influxql.SubQuery); ok {
				replaceExprs(sub.Statement, replace)
			}
		}
	case *influxql.ShowMeasurementsStatement:
		in(&s.Condition)
	case *influxql.ShowSeriesStatement:
		in(&s.Condition)
	case *influxql.ShowTagKeysStatement:
		in(&s.Condition)
	case *influxql.ShowTagValuesStatement:
		in(&s.Condition)
	case *influxql.ShowSeriesCardinalityStatement:
		in(&s.Condition)
	case *influxql.ShowMeasurementCardinalityStatement:
		in(&s.Condition)
	case *influxql.ShowTagKeyCardinalityStatement:
		in(&s.Condition)
	case *influxql.ShowTagValuesCardinalityStatement:
		in(&s.Condition)
	case *influxql.ShowFieldKeyCardinalityStatement:
		in(&s.Condition)
	}
}

// ErrWrites is wrapped by the error of a Read of a statement that could change something.
var ErrWrites = errors.New("a statement to be read would write")

// CheckReads returns an error unless every statement is a SELECT without INTO or a SHOW. Both
// stores call it first, whoever has checked the statements before.
func CheckReads(statements influxql.Statements) error {
	for _, statement := range statements {
		if !reads(statement) {
			return &Error{Op: "read", Kind: Invalid, Err: fmt.Errorf("%w: %T", ErrWrites, statement)}
		}
	}
	return nil
}

func reads(statement influxql.Statement) bool {
	switch s := statement.(type) {
	case *influxql.SelectStatement:
		return s.Target == nil && !slices.ContainsFunc(s.Sources, func(source influxql.Source) bool {
			sub, ok := source.(*influxql.SubQuery)
			return ok && !reads(sub.Statement)
		})
	case *influxql.ShowDatabasesStatement, *influxql.ShowRetentionPoliciesStatement, *influxql.ShowMeasurementsStatement,
		*influxql.ShowTagKeysStatement, *influxql.ShowTagValuesStatement, *influxql.ShowFieldKeysStatement,
		*influxql.ShowSeriesStatement, *influxql.ShowSeriesCardinalityStatement, *influxql.ShowMeasurementCardinalityStatement,
		*influxql.ShowTagKeyCardinalityStatement, *influxql.ShowTagValuesCardinalityStatement, *influxql.ShowFieldKeyCardinalityStatement:
		return true
	default:
		return false
	}
}
