package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// StreamName is the name of the stream.
	StreamName = "PULSE"
	// Account is the server's account that has the stream, and User its only user, who connects
	// from inside the process.
	Account = "PULSE"
	User    = "journal"
	// ReaderConsumers begins the names of the consumers of all readers, and of no other consumer.
	ReaderConsumers = "pulse-"

	accountSystem = "SYS"
)

// duplicateWindow is the shortest that the server takes: message ids are not used, and it is read
// back at each start.
const duplicateWindow = 100 * time.Millisecond

// maxPending is how much of what a connection asked for may wait for it.
const maxPending = 16 << 20

// embedded is one run of the server inside the process, with the connection that appends through
// it. A write error of the server is final for the run: the journal stops it and starts another.
type embedded struct {
	srv      *server.Server
	log      *serverLog
	password string // of connections from inside the process, made again for each run
	nc       *nats.Conn
	js       jetstream.JetStream
	shows    bool       // outside clients are let in
	outside  OutsideRun // serves them; nil if there is no Outside
	msgs     string     // the directory of the stream's blocks
	once     sync.Once
	gone     chan struct{} // closed when the run ends; readers go over to the next

	stream     jetstream.Stream // there once it is open
	identity   string           // of the stream
	ackSubject string
	acks       chan *nats.Msg

	// last is the last sequence number used, blocks what syncs. Both are the committer's.
	last   uint64
	blocks *blocks
}

// streamDir is where the server keeps the stream below its store directory.
func streamDir(dir string) string {
	return filepath.Join(dir, "jetstream", Account, "streams", StreamName)
}

// startServer starts the server on o.Dir and connects to it. The stream may not be there yet.
func startServer(ctx context.Context, o Options) (*embedded, error) {
	sync := o.Sync.every
	if sync == 0 {
		// The journal syncs by itself what it acknowledges. This is for what the server rewrites
		// in the background: its index, and the oldest block when half of it has expired.
		sync = 10 * time.Second
	}
	opts := &server.Options{
		ServerName:             "pulse",
		DontListen:             true,
		NoSigs:                 true,
		NoLog:                  true,
		JetStream:              true,
		StoreDir:               o.Dir,
		SyncInterval:           sync,
		SyncAlways:             o.serverSyncAlways,
		JetStreamMaxMemory:     64 << 20,
		JetStreamMaxStore:      1 << 60, // the stream's MaxBytes is the limit; unset means 75 % of what is free at this start
		MaxPayload:             maxStored,
		NoFastProducerStall:    true,
		DisableJetStreamBanner: true,
		// Readers ask for bounded batches; this only has to be larger than one. An outside client
		// that does not take what it asked for is cut off here.
		MaxPending: maxPending,
		// The server's cache is of what subscribes to each subject. Every new subscription copies
		// what there is for all the subjects that match: with a thousand relays, ten thousand
		// subscriptions to all of them cost seconds.
		NoSublistCache: true,
	}
	r := &embedded{password: rand.Text(), msgs: filepath.Join(streamDir(o.Dir), "msgs"), gone: make(chan struct{})}
	var exports, accounts string
	if o.Outside != nil {
		exports, accounts = o.Outside.Configure(opts, r.password)
		r.shows = accounts != ""
	}
	user := func(name string) string {
		return fmt.Sprintf("users: [ {user: %q, password: %q, allowed_connection_types: [IN_PROCESS]} ]", name, r.password)
	}
	config := fmt.Sprintf("system_account: %s\naccounts {\n  %[1]s { %s }\n"+
		"  %s {\n    jetstream: enabled\n    %s\n    %s\n  }\n%s}\n",
		accountSystem, user("system"), Account, user(User), exports, accounts)
	if err := opts.ProcessConfigString(config); err != nil {
		return nil, fmt.Errorf("the server's configuration: %w", err)
	}
	auth := newAuthenticator(o.Outside, r.password, opts.Users)
	opts.CustomClientAuthentication = auth
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("the server's options: %w", err)
	}
	r.srv, auth.srv = srv, srv
	r.log = &serverLog{log: o.Logger, trouble: make(chan struct{}, 1), outside: o.Outside}
	srv.SetLoggerV2(r.log, false, false, false)

	// Start returns when the streams are recovered, which a long journal after a kill -9 takes
	// seconds for.
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	select {
	case <-started:
	case <-ctx.Done():
		srv.Shutdown()
		<-started
		srv.WaitForShutdown()
		return nil, ctx.Err()
	}
	if err := r.log.fatal(); err != nil {
		r.stop()
		return nil, err
	}
	if !srv.ReadyForConnections(10 * time.Second) {
		r.stop()
		return nil, errors.New("the server is not ready for connections after 10s")
	}
	if !srv.JetStreamEnabled() {
		r.stop()
		return nil, errors.New("the server did not enable JetStream; see its warnings in the log")
	}
	if r.nc, err = r.connect("append"); err != nil {
		r.stop()
		return nil, err
	}
	if r.js, err = jetstream.New(r.nc, jetstream.WithDefaultTimeout(10*time.Second)); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// connect makes a connection of its own to the server, without reconnects: a connection lives as
// long as the run.
func (r *embedded) connect(name string) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(r.srv), nats.Name(name), nats.NoReconnect(),
		nats.UserInfo(User, r.password), nats.CustomInboxPrefix("_INBOX."+name),
		nats.Timeout(10*time.Second), nats.PingInterval(time.Hour),
		// Without a handler the client writes to stderr, past the log.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			r.log.log.Warn("a connection to the journal's own server reports an error", "connection", name, "error", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("connecting to the embedded server: %w", err)
	}
	return nc, nil
}

// stop ends the run. It may be called again. It returns when no goroutine of the server is left.
func (r *embedded) stop() {
	r.once.Do(func() {
		close(r.gone)
		if r.outside != nil {
			r.outside.Close()
		}
		if r.nc != nil {
			r.nc.Close()
		}
		r.srv.Shutdown()
		r.srv.WaitForShutdown()
	})
}

// streamConfig is the stream as it should be.
func streamConfig(o Options, identity string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamName,
		Description: "Everything that Pulse's relays answered",
		Subjects:    []string{"pulse.>"}, // of edges too; nobody else publishes in this account
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Compression: jetstream.NoCompression, // a flipped bit in a compressed block loses the stream
		Replicas:    1,
		MaxAge:      o.Retention,
		MaxBytes:    o.MaxBytes,
		MaxMsgSize:  maxStored,
		MaxMsgs:     -1,
		Duplicates:  duplicateWindow,
		// Not for appending here (see doc.go), but for programs that restore events into a journal.
		AllowDirect: true,
		DenyDelete:  true,
		Metadata:    map[string]string{metaIdentity: identity},
	}
}

const metaIdentity = "pulse.identity"
