package influxquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/projector/influx"
)

// Version is the version of InfluxDB whose language and form of answers this is, for the header
// X-Influxdb-Version.
const Version = "1.8.10"

// Store runs statements that only read. influx.Store is the implementation, and says how.
type Store interface {
	Read(ctx context.Context, r influx.ReadRequest, visit func(influx.ReadResult) error) error
}

// Options of a Handler. Store is required.
type Options struct {
	Store   Store
	Timeout time.Duration // of one request, without the wait for its turn; default 30 s
	Wait    time.Duration // for its turn; default 10 s
	AtOnce  int           // requests that run at a time; default 2
	Values  int           // in an answer, without chunked=true; default 500,000

	Logger *slog.Logger
	Now    func() time.Time
}

// Handler answers /query. Whoever calls it has checked the token, and bounds the body.
type Handler struct {
	o     Options
	turns chan struct{}
	warn  rate.Sometimes // limits the log lines about a store that fails
}

// New returns a Handler.
func New(o Options) *Handler {
	o.Timeout, o.Wait = cmp.Or(o.Timeout, 30*time.Second), cmp.Or(o.Wait, 10*time.Second)
	o.AtOnce, o.Values = cmp.Or(o.AtOnce, 2), cmp.Or(o.Values, 500_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Handler{o: o, turns: make(chan struct{}, o.AtOnce), warn: rate.Sometimes{First: 3, Interval: time.Minute}}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Influxdb-Version", Version)
	out := &writer{w: w, format: formatFor(r)}
	req, err := parse(r)
	if err == nil {
		err = allow(req.statements, req.database, req.policy)
	}
	if err == nil {
		err = boundStatements(req.statements, h.o.Now())
	}
	if err != nil {
		status := http.StatusBadRequest
		if _, refused := errors.AsType[*refusal](err); refused {
			status = http.StatusForbidden
		}
		out.fail(status, err.Error())
		return
	}
	if !h.turn(r.Context()) {
		w.Header().Set("Retry-After", "5")
		out.fail(http.StatusServiceUnavailable, fmt.Sprintf("max-concurrent-queries limit exceeded(%d, %d)", h.o.AtOnce, h.o.AtOnce))
		return
	}
	defer func() { <-h.turns }()
	h.run(r.Context(), req, out)
}

// turn waits for a turn. The caller gives it back if turn returns true.
func (h *Handler) turn(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, h.o.Wait)
	defer cancel()
	select {
	case h.turns <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// run answers an allowed request.
func (h *Handler) run(client context.Context, req *request, out *writer) {
	ctx, cancel := context.WithTimeout(client, h.o.Timeout)
	defer cancel()
	statements := req.statements
	answer := &response{}
	at, size := 0, 0
	visit := func(part influx.ReadResult) error {
		at = part.Statement
		if part.Err == "" && !part.Partial {
			at++ // what fails next is the next statement
		}
		own(&part, statements)
		writeTimes(part.Series, req.epoch)
		if req.chunked {
			return out.send(&response{Results: []*influx.ReadResult{&part}})
		}
		if size += cells(part.Series); size > h.o.Values {
			at = part.Statement
			return errTooMuch
		}
		answer.add(&part)
		return nil
	}
	err := h.o.Store.Read(ctx, influx.ReadRequest{
		Statements: statements, Database: req.database, Policy: req.policy, ChunkRows: req.chunkRows,
	}, visit)
	if client.Err() != nil {
		return // nobody waits for the answer
	}
	if e, ok := errors.AsType[*influx.Error](err); ok && e.NotFinite() {
		_ = out.send(&response{Err: e.Err.Error()}) // as the server itself says it
		return
	}
	if err != nil {
		status, text := h.say(err)
		if status != http.StatusOK && !out.begun {
			out.fail(status, text)
			return
		}
		part := &influx.ReadResult{Statement: min(max(at, 0), len(statements)-1), Err: text}
		if req.chunked {
			answer = &response{}
		}
		answer.add(part)
	}
	if err != nil || !req.chunked {
		_ = out.send(answer) // fails only when the client is gone
	}
}

// say is the status and the text for an error of the store. Status 200 makes it an error of the
// statement, as InfluxDB does with its own limits.
func (h *Handler) say(err error) (status int, text string) {
	switch {
	case errors.Is(err, errTooMuch):
		return http.StatusOK, errTooMuch.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusOK, fmt.Sprintf("query-timeout limit exceeded: no answer within %v", h.o.Timeout)
	}
	if e, ok := errors.AsType[*influx.Error](err); ok && e.Kind == influx.Invalid {
		return http.StatusBadRequest, e.Err.Error()
	}
	h.warn.Do(func() { h.o.Logger.Warn("/query: InfluxDB does not answer", "error", err) })
	return http.StatusServiceUnavailable, "InfluxDB does not answer: the server's log says why"
}

// writer writes an answer in the client's format.
type writer struct {
	w      http.ResponseWriter
	format format
	begun  bool
}

// send writes a response, or a part of one, with status 200.
func (o *writer) send(r *response) error {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", o.format.kind())
		o.w.WriteHeader(http.StatusOK)
	}
	if err := o.format.write(o.w, r); err != nil {
		return err
	}
	if err := http.NewResponseController(o.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// fail answers with an error, before anything was sent.
func (o *writer) fail(status int, text string) {
	o.begun = true
	o.w.Header().Set("Content-Type", o.format.kind())
	o.w.Header().Set("X-Influxdb-Error", header(text))
	o.w.WriteHeader(status)
	_ = o.format.write(o.w, &response{Err: text}) // fails only when the client is gone
}

// header is a text as a header may hold it.
func header(text string) string {
	b := []byte(text[:min(len(text), 1024)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = ' '
		}
	}
	return string(b)
}
