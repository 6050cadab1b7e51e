// Package influxnames has the names that Pulse uses in InfluxDB. They are those of Pulse 0.2, so
// that its dashboards still work.
package influxnames

import (
	"slices"
	"strings"
)

const (
	// Database holds all data of Pulse.
	Database = "statistics"
	// Raw is the retention policy of single readings, and the default policy. A reading is a point
	// of the measurement and field named after its stat.
	Raw = "one_day"
	// Aggregates is the retention policy of the windows.
	Aggregates = "one_week"
	// Aggregate is the measurement of the windows. A row has six fields for each stat: the mean,
	// named after the stat, and five companions.
	Aggregate = "aggregate"
	// Windows is the measurement of the windows with its database and policy, quoted as in a
	// statement.
	Windows = `"` + Database + `"."` + Aggregates + `"."` + Aggregate + `"`
	// Host is the tag with the relay's id.
	Host = "host"
	// Edge is the tag with the name of the edge, of the relays of edges at their hub.
	Edge = "edge"
)

// These suffixes follow a stat's name in the names of its companions.
const (
	Count = ":count"
	Sum   = ":sum"
	Min   = ":min"
	Max   = ":max"
	Last  = ":last"
)

// Fields returns the names of a stat's fields: the mean, count, sum, min, max and last.
func Fields(stat string) [6]string {
	return [6]string{stat, stat + Count, stat + Sum, stat + Min, stat + Max, stat + Last}
}

// IsCompanion reports whether a field is a companion of a stat's mean, and so not itself a stat.
func IsCompanion(field string) bool {
	return slices.ContainsFunc([]string{Count, Sum, Min, Max, Last}, func(suffix string) bool {
		return strings.HasSuffix(field, suffix)
	})
}
