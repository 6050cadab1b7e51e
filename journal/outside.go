package journal

import (
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// Outside lets programs outside of the process read the journal through its server. Package outside
// has the one that Pulse uses; the journal uses it through this interface only. Admit and Log are
// called from any goroutine, the others from one at a time.
type Outside interface {
	// Configure is called before each start of the server. It adds to the server's options where to
	// listen and how clients are served. It returns, in the syntax of the server's configuration,
	// the exports of the journal's account and the accounts beside it; both are "" if nobody is let
	// in. Connections from inside the process give the password.
	Configure(opts *server.Options, password string) (exports, accounts string)
	// Admit returns as which user of the configuration a client that connected over TCP is taken,
	// false to refuse it.
	Admit(client server.ClientAuthentication) (user string, ok bool)
	// Log takes a line of the server's log, and reports whether it is about a client: only then it
	// is Outside's to log.
	Log(line string) bool
	// Open lets clients in, at the end of each start. If the first one fails, so does [Open].
	Open(run *Run) (OutsideRun, error)
}

// OutsideRun serves clients in one run of the server. Its methods are called once at a time.
type OutsideRun interface {
	// Committed gets events when they are durable. It must not block, and keeps nothing of them.
	Committed(events []Message)
	// Close ends everything that Open began, and waits for it. The server is stopped after it.
	Close()
}

// Message is an event as it is stored.
type Message struct {
	Subject string
	Data    []byte
}

// Run is a run of the server as an [Outside] sees it.
type Run struct {
	Server *server.Server
	// JetStream is a connection in the journal's account. Nothing may be stored through it.
	JetStream jetstream.JetStream
	// Password is what connections from inside the process give.
	Password string
	// Dir and Retention are the journal's.
	Dir       string
	Retention time.Duration
}

// SyncConsumer syncs the files of a durable consumer. The server does not do so when it makes one.
func (r *Run) SyncConsumer(name string) error {
	return syncTree(filepath.Join(streamDir(r.Dir), "obs", name), r.Dir)
}

// letIn lets outside clients in to a run that is ready, if there may be any.
func (j *Journal) letIn(run *embedded) (err error) {
	if j.o.Outside == nil {
		return nil
	}
	run.outside, err = j.o.Outside.Open(&Run{
		Server: run.srv, JetStream: run.js, Password: run.password, Dir: j.o.Dir, Retention: j.o.Retention,
	})
	return err
}
