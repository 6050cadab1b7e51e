package influxquery

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/influxnames"
)

// A refusal says what of a request is not allowed.
type refusal struct{ text string }

func (r *refusal) Error() string { return "error authorizing query: " + r.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// allow returns an error unless every statement only reads, and only what is Pulse's. database and
// policy are those of sources that name none.
func allow(statements influxql.Statements, database, policy string) error {
	a := &allower{database: database, policy: policy}
	for _, statement := range statements {
		if err := a.statement(statement); err != nil {
			return err
		}
	}
	return nil
}

type allower struct{ database, policy string }

func (a *allower) statement(statement influxql.Statement) error {
	switch s := statement.(type) {
	case *influxql.SelectStatement:
		return a.selects(s)
	case *influxql.ShowDatabasesStatement: // the answer is cut down to Pulse's: see answer.go
		return nil
	case *influxql.ShowRetentionPoliciesStatement:
		return a.show(s.Database, nil)
	case *influxql.ShowMeasurementsStatement:
		if s.Source != nil {
			return a.show(s.Database, influxql.Sources{s.Source})
		}
		return a.show(s.Database, nil)
	case *influxql.ShowTagKeysStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowTagValuesStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowFieldKeysStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowSeriesStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowSeriesCardinalityStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowMeasurementCardinalityStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowTagKeyCardinalityStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowTagValuesCardinalityStatement:
		return a.show(s.Database, s.Sources)
	case *influxql.ShowFieldKeyCardinalityStatement:
		return a.show(s.Database, s.Sources)
	default:
		return refuse("%s is refused: Pulse answers SELECT, and SHOW of names", words(statement))
	}
}

// selects checks a SELECT and those inside it.
func (a *allower) selects(s *influxql.SelectStatement) error {
	if s.Target != nil {
		return refuse("SELECT INTO is refused: Pulse answers what only reads")
	}
	if len(s.Sources) == 0 {
		return refuse("a SELECT without FROM is refused")
	}
	for _, source := range s.Sources {
		if err := a.source(source, true); err != nil {
			return err
		}
	}
	return nil
}

// show checks a SHOW ... ON database FROM sources.
func (a *allower) show(database string, sources influxql.Sources) error {
	if database == "" {
		database = a.database
	}
	if err := allowDatabase(database); err != nil {
		return err
	}
	for _, source := range sources {
		if err := a.source(source, false); err != nil {
			return err
		}
	}
	return nil
}

// source checks one source. points says that its points are read and not its names alone.
func (a *allower) source(source influxql.Source, points bool) error {
	switch s := source.(type) {
	case *influxql.Measurement:
		switch {
		case s.IsTarget || s.SystemIterator != "" || influxql.IsSystemName(s.Name):
			return refuse("the source %s is refused: it is the engine's own", influxql.QuoteIdent(s.Name))
		case s.Name == "" && s.Regex == nil:
			return refuse("a source without a name is refused")
		}
		database, policy := s.Database, s.RetentionPolicy
		if database == "" {
			database = a.database
		}
		if policy == "" && points {
			policy = a.policy
		}
		if err := allowDatabase(database); err != nil {
			return err
		}
		switch policy {
		case "", influxnames.Raw, influxnames.Aggregates:
			return nil
		}
		return refuse("the retention policy %s is refused: Pulse has %s and %s", influxql.QuoteIdent(policy), influxnames.Raw, influxnames.Aggregates)
	case *influxql.SubQuery:
		if points {
			return a.selects(s.Statement)
		}
	}
	return refuse("a source of the kind %T is refused", source)
}

// allowDatabase checks the name of a database. An empty one is the statement's own error.
func allowDatabase(name string) error {
	if name == "" || name == influxnames.Database {
		return nil
	}
	return refuse("the database %s is refused: Pulse's is %s", influxql.QuoteIdent(name), influxnames.Database)
}

// words is what a kind of statement is called: DROP DATABASE for a DropDatabaseStatement.
func words(statement influxql.Statement) string {
	name := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", statement), "*influxql."), "Statement")
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
