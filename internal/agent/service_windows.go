package agent

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"

	"github.com/nanopack/pulse/internal/command"
)

// serviceName is what the event log calls the program. A process that is a service of its own does
// not need to know under which name it was installed.
const serviceName = "pulse-relay"

// underServiceManager runs the program if a service control manager of Windows has started the
// process. What the program says goes to the event log.
func underServiceManager(program command.RunFunc) (code int, is bool) {
	is, err := svc.IsWindowsService()
	if err != nil || !is {
		return 0, false
	}
	log, err := eventlog.Open(serviceName)
	if err != nil {
		return command.ExitFailure, true
	}
	defer log.Close()
	s := &service{program: program, log: command.NewLogQueue(eventWriter{log})}
	err = svc.Run(serviceName, s)
	s.log.Close()
	if err != nil {
		return command.ExitFailure, true
	}
	return s.code, true
}

// A service is a program that the service control manager runs.
type service struct {
	program command.RunFunc
	log     interface {
		Write(p []byte) (int, error)
		Close()
	}
	code int
}

// Execute runs the program until it ends or the service control manager wants it to. It reports the
// exit code of the program.
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- s.program(ctx, os.Args[1:], s.log, s.log) }()
	running := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	status <- running
	for {
		select {
		case s.code = <-ended:
			return s.code != command.ExitOK, uint32(s.code)
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending}
				cancel()
			}
		}
	}
}

// An eventWriter writes each line to the event log, with the level that it has in the log.
type eventWriter struct{ log *eventlog.Log }

// Write writes whole lines.
func (w eventWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		write := w.log.Info
		switch {
		case strings.Contains(line, " level=WARN "):
			write = w.log.Warning
		case strings.Contains(line, " level=ERROR "), strings.Contains(line, " level=FATAL "), strings.HasPrefix(line, serviceName+": "):
			write = w.log.Error
		}
		if err := write(1, strings.TrimRight(line, "\r\n")); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
