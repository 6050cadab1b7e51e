package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// runAsPulse makes the test binary run as pulse, so that tests can start, kill and signal a real
// server process.
const runAsPulse = "TEST_BINARY_IS_PULSE"

func TestMain(m *testing.M) {
	if os.Getenv(runAsPulse) != "" {
		if file := os.Getenv(clockFile); file != "" {
			runWithClock(file)
		}
		main()
		return
	}
	if dir := os.Getenv(runAsAgent); dir != "" {
		countingAgent(dir)
		return
	}
	goleak.VerifyTestMain(m)
}
