package influx_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/influxtest"
)

func openExternal(tb testing.TB, o influx.ExternalOptions) influx.Store {
	tb.Helper()
	s, err := influx.OpenExternal(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// The suite runs over real servers; one of them gets gzip.
func TestSuiteExternal(t *testing.T) {
	for _, c := range []struct {
		version     testtools.InfluxDB
		compression influx.Compression
	}{
		{testtools.InfluxDB18, influx.CompressAuto},
		{testtools.InfluxDB16, influx.CompressOn},
	} {
		t.Run(string(c.version), func(t *testing.T) {
			t.Parallel()
			server := testtools.StartInfluxd(t, c.version)
			influxtest.RunSuite(t, func(t *testing.T) influx.Store {
				s := openExternal(t, influx.ExternalOptions{Address: server.Addr, Compression: c.compression})
				if _, err := s.Query(t.Context(), `DROP DATABASE "statistics"`, nil); err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// A real server is killed, comes back, hangs, and is wiped. Every state has its Kind, and the next
// write after it succeeds.
func TestExternalOutages(t *testing.T) {
	t.Parallel()
	server := testtools.StartInfluxd(t, testtools.InfluxDB18)
	s := openExternal(t, influx.ExternalOptions{Address: server.Addr})
	impatient := openExternal(t, influx.ExternalOptions{Address: server.Addr, Timeout: 500 * time.Millisecond})
	schema := func() {
		t.Helper()
		if _, err := s.Query(t.Context(), `CREATE DATABASE "statistics" WITH DURATION 0s REPLICATION 1 NAME "one_day"`, nil); err != nil {
			t.Fatal(err)
		}
	}
	writeTo := func(s influx.Store, when string, kind influx.Kind, ok bool) {
		t.Helper()
		_, err := s.Write(t.Context(), influx.PolicyRaw, batch(10))
		if (err == nil) != ok || influx.KindOf(err) != kind {
			t.Fatalf("%s: %v", when, err)
		}
	}
	write := func(when string, kind influx.Kind, ok bool) {
		t.Helper()
		writeTo(s, when, kind, ok)
	}
	write("before the schema", influx.Schema, false)
	schema()
	write("with the schema", 0, true)
	server.Kill()
	write("killed", influx.Temporary, false)
	server.Restart()
	write("restarted", 0, true)
	server.Pause()
	writeTo(impatient, "hanging", influx.Temporary, false)
	server.Resume()
	write("going on", 0, true)
	if _, err := s.Query(t.Context(), `DROP DATABASE "statistics"`, nil); err != nil {
		t.Fatal(err)
	}
	write("wiped", influx.Schema, false)
	schema()
	write("repaired", 0, true)
}

// The server has limits on series: new series are lost, with an alarm, and known series are
// written.
func TestExternalLimits(t *testing.T) {
	t.Parallel()
	for line, version := range map[string]testtools.InfluxDB{
		"max-values-per-tag = 5": testtools.InfluxDB18, "max-series-per-database = 5": testtools.InfluxDB16,
	} {
		server := testtools.StartInfluxd(t, version, testtools.Setting{Section: "data", Line: line})
		s := openExternal(t, influx.ExternalOptions{Address: server.Addr})
		if _, err := s.Query(t.Context(), `CREATE DATABASE "statistics" WITH DURATION 0s REPLICATION 1 NAME "one_day"`, nil); err != nil {
			t.Fatal(err)
		}
		if res, err := s.Write(t.Context(), influx.PolicyRaw, batch(5)); err != nil || res != (influx.WriteResult{}) {
			t.Fatalf("%s: up to the limit: %+v, %v", line, res, err)
		}
		res, err := s.Write(t.Context(), influx.PolicyRaw, batch(8))
		if err != nil || res.Rejected != 3 || !res.Limit || res.Reason == "" {
			t.Errorf("%s: beyond the limit: %+v, %v", line, res, err)
		}
	}
}

func TestExternalAuth(t *testing.T) {
	t.Parallel()
	server := testtools.StartInfluxd(t, testtools.InfluxDB18, testtools.Setting{Section: "http", Line: "auth-enabled = true"})
	with := func(user string) influx.Store {
		return openExternal(t, influx.ExternalOptions{Address: strings.Replace(server.Addr, "://", "://"+user, 1)})
	}
	none, wrong, right, other := with(""), with("admin:wrong@"), with("admin:p%40ss@"), with("other:x@")
	for _, statement := range []string{
		`CREATE USER "admin" WITH PASSWORD 'p@ss' WITH ALL PRIVILEGES`, `CREATE USER "other" WITH PASSWORD 'x'`,
		`CREATE DATABASE "statistics" WITH DURATION 0s REPLICATION 1 NAME "one_day"`,
	} {
		s := right
		if strings.Contains(statement, `"admin"`) {
			s = none // anyone may make the first user
		}
		if _, err := s.Query(t.Context(), statement, nil); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for name, s := range map[string]influx.Store{"none": none, "wrong": wrong, "other": other} {
		_, write := s.Write(t.Context(), influx.PolicyRaw, batch(1))
		_, query := s.Query(t.Context(), `SELECT * FROM "statistics"."one_day"."cpu"`, nil)
		if influx.KindOf(write) != influx.Auth || influx.KindOf(query) != influx.Auth {
			t.Errorf("user %s: %v; %v", name, write, query)
		}
	}
	if _, err := right.Write(t.Context(), influx.PolicyRaw, batch(1)); err != nil {
		t.Error(err)
	}
}

func BenchmarkWriteExternal(b *testing.B) {
	for _, version := range []testtools.InfluxDB{testtools.InfluxDB18, testtools.InfluxDB16} {
		for name, compression := range map[string]influx.Compression{"plain": influx.CompressOff, "gzip": influx.CompressOn} {
			b.Run(string(version)+"/"+name, func(b *testing.B) {
				server := testtools.StartInfluxd(b, version)
				influxtest.BenchmarkWrite(b, openExternal(b, influx.ExternalOptions{Address: server.Addr, Compression: compression}))
			})
		}
	}
}
