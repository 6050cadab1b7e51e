package influx_test

import (
	"testing"

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

// The suite over real servers; with gzip on one of them.
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
