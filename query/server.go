package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/query/console"
	"github.com/nanopack/pulse/query/influxquery"
)

// Server serves the API on one listener. Start it once. Stop may be called at any time, any number
// of times.
type Server struct {
	o        Options
	log      *slog.Logger
	metrics  *metrics
	cors     atomic.Pointer[string] // Access-Control-Allow-Origin
	tickets  *tickets
	commands commands
	page     *console.Console
	tokens   *guesses.Tokens
	// An address that guesses tickets is not refused for tokens: a page that comes back after a
	// restart has an old ticket.
	ticketGuesses *guesses.Limiter

	router  *httprouter.Router
	methods []string // of the table, for Allow
	http    *http.Server
	asked   http.Handler   // /query; nil without a store for it
	turns   chan struct{}  // one for each history query under way
	warn    rate.Sometimes // limits the log lines of failed requests
	guessed rate.Sometimes // and of refused addresses
	crowd   rate.Sometimes // and of too many connections
	started time.Time

	backingUp sync.Mutex    // held while a backup is written
	trying    chan struct{} // holds one while an alert is tried on the past

	// streams ends when Stop is called: answers that may take for ever end with it.
	streams    context.Context
	endStreams context.CancelFunc
	patience   time.Duration // with a client that does not read its stream

	// baseCtx is the ancestor of every request's context. cut ends it when the time to drain is over.
	baseCtx context.Context
	cut     context.CancelFunc

	listener *limitListener
	serving  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	running bool
	stopped bool
}

// New builds a server on the listener in o, which the server owns from now on, also when New fails.
// Nothing is served before Start.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		if o.Listener != nil {
			err = errors.Join(err, o.Listener.Close())
		}
		return nil, err
	}
	s := &Server{
		o:        o,
		log:      o.Logger,
		metrics:  newMetrics(o.Registerer),
		tickets:  newTickets(),
		commands: commands{o.Control, o.Relays, o.Compat == Compat02},
		page:     console.New(),
		patience: streamPatience,
		turns:    make(chan struct{}, o.HistoryQueries),
		trying:   make(chan struct{}, 1),
		started:  o.Now(),
		warn:     rate.Sometimes{First: 3, Interval: time.Minute},
		guessed:  rate.Sometimes{First: 1, Interval: time.Minute},
		crowd:    rate.Sometimes{First: 1, Interval: time.Minute},

		tokens: guesses.NewTokens(o.Token, o.ReadToken), ticketGuesses: guesses.New(),
	}
	if o.InfluxQL != nil {
		s.asked = influxquery.New(influxquery.Options{Store: o.InfluxQL, Timeout: o.QueryTimeout, Wait: queueTimeout, Logger: o.Logger, Now: o.Now})
	}
	s.SetCORS(o.CORS)
	s.router, s.methods = s.newRouter(s.routes())
	s.baseCtx, s.cut = context.WithCancel(context.Background())
	s.streams, s.endStreams = context.WithCancel(s.baseCtx)
	s.listener = newLimitListener(o.Listener, o.MaxConnections, s.metrics.connections, s.crowded)
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: headerTimeout,
		// The reading time too is as long as a query may take: net/http ends a request's context when
		// that time is over, body or not. A route that streams lifts both limits with
		// http.ResponseController.
		ReadTimeout:    o.QueryTimeout + answerSlack,
		WriteTimeout:   o.QueryTimeout + answerSlack,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return s.baseCtx },
		ConnContext:    withConn,
		// "OPTIONS *" gets the same answer as any other OPTIONS.
		DisableGeneralOptionsHandler: true,
	}
	if o.Token == "" {
		s.log.Warn("the API asks for no token: everybody who reaches it may use it", "address", s.Addr().String())
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Start serves in the background until Stop.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running || s.stopped {
		return
	}
	s.running = true
	s.serving.Go(func() {
		var err error
		if s.o.TLS != nil {
			err = s.http.ServeTLS(s.listener, "", "")
		} else {
			err = s.http.Serve(s.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the API stopped serving", "address", s.Addr().String(), "error", err)
		}
	})
}

// crowded notes that a connection made way for another.
func (s *Server) crowded() {
	s.metrics.madeWay.Inc()
	s.crowd.Do(func() {
		s.log.Warn("all connections to the API are taken: those that ask for nothing are closed for new ones", "limit", s.o.MaxConnections)
	})
}

// Stop takes no new requests, ends streams and backups, waits for the answers under way until ctx
// ends, then cuts off the rest. The error says that it cut answers off.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.endStreams()
	err := s.http.Shutdown(ctx)
	s.cut()
	if err != nil {
		err = fmt.Errorf("query: answers were still under way when the time to stop was over: %w",
			errors.Join(err, s.http.Close()))
	}
	// Shutdown closes the listener only if Start was called.
	if cerr := s.listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("query: close listener: %w", cerr))
	}
	s.serving.Wait()
	return err
}

// ServeHTTP is one request from the first header to the last metric. It is exported for tests and
// for programs that embed the API in another server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := s.o.Now()
	rec := &recorder{ResponseWriter: w, route: routeOther}
	defer func() {
		took := s.o.Now().Sub(begin)
		if rec.stream {
			took = 0 // the length of a stream is no measure of the server
		}
		s.metrics.observe(rec.route, r.Method, rec.code(), took)
		s.log.Debug("request", "method", r.Method, "route", rec.route, "code", rec.code(),
			"took", took, "client", r.RemoteAddr)
	}()
	defer s.recoverPanic(rec, r)
	defer atWork(r.Context())()

	s.setCommonHeaders(rec.Header())
	if len(r.TransferEncoding) > 0 {
		// The request may have had a Content-Length too, which net/http drops without a word. A proxy
		// may have used it and see the end of the request elsewhere. So what follows is not read.
		rec.Header().Set("Connection", "close")
	}
	if r.Method == http.MethodOptions {
		s.options(rec, r)
		return
	}
	if s.page.Serve(rec, r) {
		rec.route = "/"
		return
	}
	// The plain w, because only net/http's own type closes the connection after a body that is too
	// long.
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	s.router.ServeHTTP(rec, routable(r))
}

// recoverPanic turns a panic of a handler into a 500. When the answer had begun, the connection is
// broken off, so that the client cannot take half an answer for a whole one.
func (s *Server) recoverPanic(rec *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // the value itself is the signal
		panic(p)
	}
	s.metrics.panics.Inc()
	s.log.Error("a request made its handler panic", "route", rec.route, "method", r.Method,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler)
	}
	rec.Header().Del("Content-Length")
	s.writeError(rec, r, &httpError{status: http.StatusInternalServerError,
		text: "internal error: the server's log has the details"})
}

// recorder remembers what the metrics need. Unwrap lets http.ResponseController reach the
// connection.
type recorder struct {
	http.ResponseWriter
	route  string
	status int  // 0 until the header was written
	stream bool // an answer for as long as the client likes
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	return r.status
}
