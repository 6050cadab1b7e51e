package embedded

import (
	"context"
	"math"
	"time"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/query"
	client "github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/projector/influx"
)

// Query implements influx.Store. It waits for its turn while MaxQueries statements are running.
func (s *Store) Query(ctx context.Context, statement string, params map[string]any) ([]client.Row, error) {
	if err := s.enter("query", ctx); err != nil {
		return nil, err
	}
	defer s.calls.Done()

	q, _, err := influx.Parse(statement, params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return nil, influx.ContextError("query", ctx)
	case <-s.stopCh:
		return nil, s.interrupted()
	}
	rows, err := s.run(ctx, q)
	if _, reads := q.Statements[0].(*influxql.SelectStatement); !reads && err == nil {
		err = s.note()
	}
	return rows, err
}

// note saves the manifest, because the statement may have changed the schema.
func (s *Store) note() error {
	if err := s.ledger.confirm(); err != nil {
		return &influx.Error{Op: "query", Kind: influx.Temporary, Err: err}
	}
	return nil
}

// run executes q until ctx or the store ends, and collects its rows.
func (s *Store) run(ctx context.Context, q *influxql.Query) ([]client.Row, error) {
	interrupt, end := s.interruptible(ctx)
	var rows []client.Row
	var failed error
	// The channel is always drained: the executor closes it when it no longer uses the query.
	for r := range s.executor.ExecuteQuery(q, query.ExecutionOptions{
		Database:         influx.Database,
		Authorizer:       query.OpenAuthorizer,
		CoarseAuthorizer: query.OpenCoarseAuthorizer,
		Quiet:            true,
	}, interrupt) {
		if r.Err != nil && failed == nil {
			failed = r.Err
		}
		for _, row := range r.Series {
			rows = appendRow(rows, row)
		}
	}
	end()

	if err := influx.ContextError("query", ctx); err != nil {
		return nil, err
	}
	if failed == nil {
		return rows, nil
	}
	select {
	case <-s.stopCh:
		return nil, s.interrupted()
	default:
		return nil, influx.StatementError(0, failed.Error())
	}
}

// interruptible returns a channel that is closed when ctx or the store ends, and at the latest by
// end.
func (s *Store) interruptible(ctx context.Context) (interrupt chan struct{}, end func()) {
	interrupt = make(chan struct{})
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-s.stopCh:
		case <-ended:
		}
		close(interrupt)
	}()
	return interrupt, func() {
		close(ended)
		<-watched
	}
}

// appendRow adds the engine's row in the client's form. The engine sends a long series in several
// rows; appendRow joins them into one.
func appendRow(rows []client.Row, row *models.Row) []client.Row {
	out := client.Row{Name: row.Name, Tags: row.Tags, Columns: row.Columns, Values: row.Values}
	for _, values := range out.Values {
		for i, v := range values {
			values[i] = value(v)
		}
	}
	if n := len(rows); n > 0 && rows[n-1].SameSeries(&out) {
		rows[n-1].Values = append(rows[n-1].Values, out.Values...)
		return rows
	}
	return append(rows, out)
}

// value converts the value of a column to the type that influx.Store promises.
func value(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UnixNano()
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil // JSON has no such number; a statement may compute 0/0
		}
		return v
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	case int:
		return float64(v)
	case time.Duration:
		return v.String()
	default:
		return v
	}
}
