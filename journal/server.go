package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The stream and its subjects.
const (
	streamName      = "PULSE"
	subjectReadings = "pulse.readings."
	subjectRelays   = "pulse.relays."
	subjectLive     = "pulse.live."
)

// duplicateWindow is the shortest that the server takes: message ids are not used, and it is read back at each start.
const duplicateWindow = 100 * time.Millisecond

// maxPending is how much of what a connection asked for may wait for it.
const maxPending = 16 << 20

// embedded is one run of the server inside the process, with the connection that appends through it.
// A write error of the server is final for the run: the journal stops it and starts another.
type embedded struct {
	srv  *server.Server
	log  *serverLog
	cred credentials
	nc   *nats.Conn
	door *door // nil: nobody outside is let in
	js   jetstream.JetStream
	msgs string // the directory of the stream's blocks
	once sync.Once
	gone chan struct{} // closed when the run ends; readers go over to the next

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
	return filepath.Join(dir, "jetstream", accountPulse, "streams", streamName)
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
		MaxPayload:             MaxEventBytes,
		NoFastProducerStall:    true,
		DisableJetStreamBanner: true,
		// Readers ask for bounded batches; this only has to be larger than one. An outside client that does not take
		// what it asked for is cut off here.
		MaxPending: maxPending,
		// The server's cache is of what subscribes to each subject. Every new subscription copies what there is for all the
		// subjects that match: with a thousand relays, ten thousand subscriptions to all of them cost seconds.
		NoSublistCache: true,
	}
	r := &embedded{cred: newCredentials(), msgs: filepath.Join(streamDir(o.Dir), "msgs"), gone: make(chan struct{})}
	if err := opts.ProcessConfigString(accountsConfig(r.cred, o.Outside)); err != nil {
		return nil, fmt.Errorf("the server's configuration: %w", err)
	}
	if o.Outside != nil {
		o.Outside.serve(opts)
	}
	auth := newAuthenticator(r.cred, o.strangers, opts.Users)
	opts.CustomClientAuthentication = auth
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("the server's options: %w", err)
	}
	r.srv, auth.srv = srv, srv
	r.log = &serverLog{log: o.Logger, trouble: make(chan struct{}, 1), strangers: o.strangers}
	srv.SetLoggerV2(r.log, false, false, false)

	// Start returns when the streams are recovered, which a long journal after a kill -9 takes seconds for.
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

// connect makes a connection of its own to the server, without reconnects: a connection lives as long as the run.
func (r *embedded) connect(name string) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(r.srv), nats.Name(name), nats.NoReconnect(),
		nats.UserInfo(userPulse, r.cred.password), nats.CustomInboxPrefix("_INBOX."+name),
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

// keep makes a connection that comes back by itself until it is closed or the run ends: for what outside clients
// need, which nobody looks after.
//
// refused is called for each message that came while too many of its kind were waiting.
func (r *embedded) keep(user, name string, refused func()) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(r.srv), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrSlowConsumer) {
			refused()
		}
	}), nats.Name(name), nats.UserInfo(user, r.cred.password),
		nats.CustomInboxPrefix("_INBOX."+name), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectBufSize(-1), nats.FlusherTimeout(time.Second), nats.Timeout(10*time.Second), nats.PingInterval(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("connecting to the embedded server: %w", err)
	}
	return nc, nil
}

// stop ends the run; again is no harm. It returns when no goroutine of the server is left.
func (r *embedded) stop() {
	r.once.Do(func() {
		close(r.gone)
		if r.door != nil {
			r.door.close()
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
		Name:        streamName,
		Description: "Everything that Pulse's relays answered",
		Subjects:    []string{subjectReadings + "*", subjectRelays + "*"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Compression: jetstream.NoCompression, // a flipped bit in a compressed block loses the stream
		Replicas:    1,
		MaxAge:      o.Retention,
		MaxBytes:    o.MaxBytes,
		MaxMsgSize:  MaxEventBytes,
		MaxMsgs:     -1,
		Duplicates:  duplicateWindow,
		// Not for appending here (see doc.go), but for programs that restore events into a journal.
		AllowDirect: true,
		DenyDelete:  true,
		Metadata:    map[string]string{metaIdentity: identity},
	}
}

const metaIdentity = "pulse.identity"

// serverLog takes the server's log: warnings and errors go on, the rest is for debugging, and what would
// end a nats-server process is kept for the caller of Open.
type serverLog struct {
	log       *slog.Logger
	trouble   chan struct{} // gets one when the server logs an error
	strangers *strangers    // takes what is about outside clients; nil if there are none

	mu  sync.Mutex
	err error
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *serverLog) Noticef(format string, v ...any) { l.put(slog.LevelDebug, format, v) }

func (l *serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords") {
		return // ours is made anew at each start and never leaves the process
	}
	if l.strangers != nil && l.strangers.take(format, v) {
		return
	}
	l.put(slog.LevelWarn, format, v)
}

func (l *serverLog) Errorf(format string, v ...any) {
	if l.strangers != nil && l.strangers.take(format, v) {
		return // nothing that they do may look like trouble with the journal
	}
	l.put(slog.LevelError, format, v)
	select {
	case l.trouble <- struct{}{}:
	default:
	}
}

func (l *serverLog) Debugf(format string, v ...any) {}
func (l *serverLog) Tracef(format string, v ...any) {}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.put(slog.LevelError, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = errors.New(strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

func (l *serverLog) put(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "journal server: "+strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}
