// Command pulse-relay is the agent of a host: it gives the stats of the host to a Pulse server that
// polls them. It is `pulse relay` as a small program of its own.
package main

import (
	"context"
	"io"
	"os"

	"github.com/nanopack/pulse/internal/agent"
	"github.com/nanopack/pulse/internal/command"
)

// release is set by the Makefile from the newest tag. It is empty after plain go build and go
// install.
var release string

func program() *command.Program {
	p := &command.Program{
		Name: "pulse-relay", Summary: "give the stats of this host to a Pulse server", Release: release,
		Hint: "without a command it is the agent",
	}
	p.Run = agent.Command(p.Name, p.All)
	return p
}

func main() {
	os.Exit(agent.Main(run))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return program().Start(ctx, args, stdout, stderr)
}
