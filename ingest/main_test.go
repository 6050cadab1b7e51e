package ingest

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if arg := os.Getenv(fleetEnv); arg != "" {
		playFleet(arg)
		return
	}
	goleak.VerifyTestMain(m)
}
