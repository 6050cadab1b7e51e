package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/journal/outside"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector/past"
)

// httpError is an answer that is not 2xx: the status, the text that the client gets, and the cause.
type httpError struct {
	status int
	text   string
	err    error // for the log; may be nil
}

func (e *httpError) Error() string { return e.text }
func (e *httpError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) *httpError {
	return &httpError{status: http.StatusBadRequest, text: fmt.Sprintf(format, args...)}
}

// answerTo is the answer to an error of a handler. Errors of the rooms keep their text, without the
// names of our packages. The text of any other error stays in the log.
func answerTo(err error) *httpError {
	var he *httpError
	if errors.As(err, &he) {
		return he
	}
	for _, kind := range []struct {
		is     error
		status int
		own    bool // the text of the kind is the answer's, whatever stands around it
	}{
		{kapa.ErrNotFound, http.StatusNotFound, true},
		{kapa.ErrTooMany, http.StatusConflict, true},
		{outside.ErrNoConsumer, http.StatusNotFound, false},
		{ingest.ErrNotFound, http.StatusNotFound, false},
		{ingest.ErrNotConnected, http.StatusNotFound, false},
		{ingest.ErrConnected, http.StatusConflict, false},
		{ingest.ErrInvalid, http.StatusBadRequest, false},
		{ingest.ErrTooMany, http.StatusBadRequest, false},
		{past.ErrNotFound, http.StatusNotFound, false},
		{past.ErrInvalid, http.StatusBadRequest, false},
		{past.ErrTooMany, http.StatusConflict, false},
	} {
		switch {
		case !errors.Is(err, kind.is):
		case kind.own:
			return &httpError{status: kind.status, text: kind.is.Error(), err: err}
		default:
			return &httpError{status: kind.status, text: plainText(err), err: err}
		}
	}
	if field, ok := errors.AsType[*kapa.FieldError](err); ok {
		return &httpError{status: http.StatusBadRequest, text: field.Error(), err: err}
	}
	return &httpError{status: http.StatusInternalServerError, text: internalError, err: err}
}

const internalError = "internal error: the server's log has the details"

func plainText(err error) string {
	if e, ok := errors.AsType[*ingest.Error](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

type errorBody struct {
	Error string `json:"error"`
}

type message struct {
	Msg string `json:"msg"`
}

// writeError answers with err.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	he := answerTo(err)
	if he.status >= http.StatusInternalServerError && r.Context().Err() == nil {
		// Every dashboard asks again and again while InfluxDB is down. The metrics count all failures.
		s.warn.Do(func() {
			s.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", he.status,
				"answer", he.text, "error", he.err)
		})
	}
	if he.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	s.writeJSON(w, he.status, errorBody{he.text})
}

// writeSuccess is the answer to what was done and has nothing to show.
func (s *Server) writeSuccess(w http.ResponseWriter) {
	s.writeJSON(w, http.StatusOK, message{"Success"})
}

// writeJSON sends v compactly, with a newline for people with curl.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) { s.sendJSON(w, status, v, "") }

// writeIndented is for the answers that people read.
func (s *Server) writeIndented(w http.ResponseWriter, status int, v any) {
	s.sendJSON(w, status, v, "  ")
}

// sendJSON encodes before it writes, so that a value that cannot be encoded gives a 500 and not
// half an answer.
func (s *Server) sendJSON(w http.ResponseWriter, status int, v any, indent string) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	// The answer is never HTML, so names stay readable. 0.2 escaped them.
	enc.SetEscapeHTML(s.o.Compat == Compat02)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		s.log.Error("an answer could not be encoded", "error", err)
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"error":"` + internalError + `"}` + "\n")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // fails only when the client is gone
}

// shorten keeps a text that others wrote from filling an answer.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "..."
}
