package migrations

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/influxdata/influxdb1-client/models"
)

// Influx runs InfluxQL statements on an InfluxDB 1.x, inside or outside of this process, one at a
// time per call. $name in a statement stands for params[name]. In rows the time is an int64 in
// nanoseconds, and every other number is a float64.
type Influx interface {
	Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error)
}

// The names in InfluxDB are those of Pulse 0.2, so that its dashboards keep working.
const (
	database        = "statistics"
	rawPolicy       = "one_day"  // every reading; the default policy, as in 0.2
	aggregatePolicy = "one_week" // the windows
	aggregate       = "aggregate"
)

// RawRetention is how long single readings are kept in InfluxDB if nothing else is said. The journal
// keeps them longer.
const RawRetention = 8 * time.Hour

// week is the unit of --retention, and its default.
const week = 7 * 24 * time.Hour

// Schema holds the settings that may differ between installations.
type Schema struct {
	Raw        time.Duration // how long single readings are kept, whole seconds; 0 means RawRetention
	Aggregates time.Duration // how long aggregates are kept, whole weeks; 0 means one
	// Missing is called before a missing database or policy is made. A missing one means that
	// everything that Pulse has ever written to it is lost. If Missing returns an error, nothing is
	// made. Nil means that the loss does not matter.
	Missing func() error
}

// EnsureInflux makes the database and its retention policies where they are missing, alters
// policies that differ, and drops the continuous query of Pulse 0.2, which would overwrite windows
// with its own rows. It changes nothing else. It may run at any time, any number of times and on
// several goroutines. It returns its changes, one line each. Without changes it runs three short
// statements.
func EnsureInflux(ctx context.Context, db Influx, schema Schema, log *slog.Logger) (done []string, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	schema.Raw = cmp.Or(schema.Raw, RawRetention)
	schema.Aggregates = cmp.Or(schema.Aggregates, week)
	if least := min(schema.Raw, schema.Aggregates); least < time.Hour {
		return nil, fmt.Errorf("retention of %v: InfluxDB keeps data for an hour at least", least)
	}
	for _, step := range []func(context.Context, Influx, Schema) ([]string, error){
		influx0001Schema,
		influx0002ContinuousQuery,
	} {
		lines, err := step(ctx, db, schema)
		for _, line := range lines {
			log.Info("the InfluxDB schema was changed", "what", line)
		}
		done = append(done, lines...)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// column returns the values of one column of all rows as text.
func column(rows []models.Row, name string) []string {
	var values []string
	for _, row := range rows {
		for i, c := range row.Columns {
			if c != name {
				continue
			}
			for _, v := range row.Values {
				values = append(values, fmt.Sprint(v[i]))
			}
		}
	}
	return values
}

// influxDuration writes a duration as InfluxQL does in statements.
func influxDuration(d time.Duration) string { return fmt.Sprintf("%ds", int64(d.Seconds())) }

// sameDuration compares d with a duration that SHOW RETENTION POLICIES has shown, such as 168h0m0s.
func sameDuration(shown string, d time.Duration) bool {
	parsed, err := time.ParseDuration(shown)
	return err == nil && parsed == d
}
