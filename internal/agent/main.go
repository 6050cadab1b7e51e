package agent

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/nanopack/pulse/internal/command"
)

// Main runs a program until it ends or is told to stop: by a signal, or on Windows by the service
// control manager. It returns the exit code.
func Main(program command.RunFunc) int {
	// The live heap is 1 to 2 MB, so that a collection costs nothing, and the memory that waits for it
	// is what shows.
	debug.SetGCPercent(40)
	if code, is := underServiceManager(program); is {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return command.OnStandardStreams(func(stdout, stderr io.Writer) int {
		return program(ctx, os.Args[1:], stdout, stderr)
	})
}
