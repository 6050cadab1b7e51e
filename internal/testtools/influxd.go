package testtools

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// InfluxDB names a version to run.
type InfluxDB string

const (
	// InfluxDB18 is 1.8.10, built from its module.
	InfluxDB18 InfluxDB = "influxd-1.8"
	// InfluxDB16 is Debian's 1.6.7.
	InfluxDB16 InfluxDB = "influxd-1.6"
)

// Setting is one line of a server's configuration file.
type Setting struct {
	Section string // as "data"
	Line    string // as "max-values-per-tag = 100"
}

// StartInfluxd runs an InfluxDB with an empty data directory.
func StartInfluxd(tb testing.TB, version InfluxDB, settings ...Setting) *Server {
	tb.Helper()
	return launch(tb, string(version), settings, func(dir, listen string, settings []Setting) []byte {
		return toml([]Setting{
			{"", "reporting-disabled = true"},
			{"", `bind-address = "127.0.0.1:0"`},
			{"meta", fmt.Sprintf("dir = %q", dir+"/meta")},
			{"data", fmt.Sprintf("dir = %q", dir+"/data")},
			{"data", fmt.Sprintf("wal-dir = %q", dir+"/wal")},
			{"data", "query-log-enabled = false"},
			{"http", fmt.Sprintf("bind-address = %q", listen)},
			{"http", "log-enabled = false"},
			{"monitor", "store-enabled = false"},
		}, settings)
	})
}

// StartKapacitord runs a Kapacitor 1.5. influx is the URL of an InfluxDB that its batch tasks can
// query. If influx is empty, Kapacitor has no InfluxDB.
func StartKapacitord(tb testing.TB, influx string, settings ...Setting) *Server {
	tb.Helper()
	return launch(tb, "kapacitord-1.5", settings, func(dir, listen string, settings []Setting) []byte {
		base := []Setting{
			{"", `hostname = "localhost"`},
			{"", fmt.Sprintf("data_dir = %q", dir)},
			{"http", fmt.Sprintf("bind-address = %q", listen)},
			{"http", "log-enabled = false"},
			{"replay", fmt.Sprintf("dir = %q", dir+"/replay")},
			{"storage", fmt.Sprintf("boltdb = %q", dir+"/kapacitor.db")},
			{"task", fmt.Sprintf("dir = %q", dir+"/tasks")},
			{"load", "enabled = false"},
			{"reporting", "enabled = false"},
			{"stats", "enabled = false"},
			{"logging", `file = "STDERR"`},
			{"[influxdb]", fmt.Sprintf("enabled = %t", influx != "")},
		}
		if influx != "" {
			base = append(base,
				Setting{"[influxdb]", `name = "default"`},
				Setting{"[influxdb]", "default = true"},
				Setting{"[influxdb]", fmt.Sprintf("urls = [%q]", influx)},
				Setting{"[influxdb]", "disable-subscriptions = true"})
		}
		return toml(base, settings)
	})
}

// toml groups the lines by section; the lines without a section come first. A later line with the
// key of an earlier line replaces it.
func toml(base, more []Setting) []byte {
	sections := map[string]map[string]string{}
	for _, s := range slices.Concat(base, more) {
		key, _, _ := strings.Cut(s.Line, "=")
		if sections[s.Section] == nil {
			sections[s.Section] = map[string]string{}
		}
		sections[s.Section][strings.TrimSpace(key)] = s.Line
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if name != "" {
			fmt.Fprintf(&b, "[%s]\n", name)
		}
		for _, key := range slices.Sorted(maps.Keys(sections[name])) {
			b.WriteString(sections[name][key] + "\n")
		}
	}
	return []byte(b.String())
}
