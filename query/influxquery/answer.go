package influxquery

import (
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/projector/influx"
)

// response is the body of an answer.
type response struct {
	Results []*influx.ReadResult `json:"results,omitempty"`
	Err     string               `json:"error,omitempty"`
}

// add joins a part of an answer to those before it, as InfluxDB does: a series goes on where it was
// cut, and an error takes the place of what the statement had.
func (r *response) add(part *influx.ReadResult) {
	l := len(r.Results)
	if l == 0 || r.Results[l-1].Statement != part.Statement {
		r.Results = append(r.Results, part)
		return
	}
	if part.Err != "" {
		r.Results[l-1] = part
		return
	}
	so := r.Results[l-1]
	if n := len(so.Series); n > 0 {
		last := &so.Series[n-1]
		for len(part.Series) > 0 && last.SameSeries(&part.Series[0]) {
			last.Values = append(last.Values, part.Series[0].Values...)
			last.Partial = part.Series[0].Partial
			part.Series = part.Series[1:]
		}
	}
	so.Series = append(so.Series, part.Series...)
	so.Messages = append(so.Messages, part.Messages...)
	so.Partial = part.Partial
}

// units are the values of epoch. Any other text is nanoseconds.
var units = map[string]time.Duration{"u": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour}

// writeTimes writes the times of rows as epoch asks for.
func writeTimes(rows []models.Row, epoch string) {
	if epoch == "" {
		return
	}
	unit := max(1, units[epoch])
	for _, row := range rows {
		for _, values := range row.Values {
			if len(values) == 0 {
				continue
			}
			if at, ok := values[0].(time.Time); ok {
				values[0] = at.UnixNano() / int64(unit)
			}
		}
	}
}

// own leaves only Pulse's database in the answer to SHOW DATABASES.
func own(part *influx.ReadResult, statements influxql.Statements) {
	if part.Statement < 0 || part.Statement >= len(statements) {
		return
	}
	if _, ok := statements[part.Statement].(*influxql.ShowDatabasesStatement); !ok {
		return
	}
	for i := range part.Series {
		var kept [][]any
		for _, values := range part.Series[i].Values {
			if len(values) > 0 && values[0] == influxnames.Database {
				kept = append(kept, values)
			}
		}
		part.Series[i].Values = kept
	}
}
