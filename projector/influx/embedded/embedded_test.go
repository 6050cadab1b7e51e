package embedded_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/influx/influxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(tb testing.TB, o embedded.Options) *embedded.Store {
	tb.Helper()
	s, err := embedded.Open(o)
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

func TestSuite(t *testing.T) {
	influxtest.RunSuite(t, func(t *testing.T) influx.Store {
		return open(t, embedded.Options{Dir: t.TempDir()})
	})
}
