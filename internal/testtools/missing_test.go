package testtools_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/testtools"
)

// recorder is a test that notes the message of its failure.
type recorder struct {
	testing.TB
	fatal string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.fatal = fmt.Sprintf(format, args...)
	panic(r)
}

// A missing server fails the test, and the message names what to run. It never skips the test.
func TestMissing(t *testing.T) {
	t.Setenv("PULSE_TOOLS", t.TempDir())
	r := &recorder{TB: t}
	defer func() {
		if recover() != r || !strings.Contains(r.fatal, "make tools") {
			t.Errorf("failed with %q, expected it to name make tools", r.fatal)
		}
	}()
	testtools.StartInfluxd(r, testtools.InfluxDB18)
}
