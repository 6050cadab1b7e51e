package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// httpError is an answer that is not 2xx: the status, the text that the client gets, and what was behind it.
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

type errorBody struct {
	Error string `json:"error"`
}

type message struct {
	Msg string `json:"msg"`
}

// writeError answers with err. The text of an error that is not an *httpError stays in the log.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var he *httpError
	if !errors.As(err, &he) {
		he = &httpError{status: http.StatusInternalServerError,
			text: "internal error: the server's log has the details", err: err}
	}
	if he.status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.warn.Do(func() { // every dashboard asks again and again while InfluxDB is down; the metrics count
			s.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", he.status,
				"answer", he.text, "error", he.err)
		})
	}
	if he.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	s.writeJSON(w, he.status, errorBody{he.text})
}

// writeJSON sends v compactly, with a newline for people with curl.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) { s.sendJSON(w, status, v, "") }

// writeIndented is for the answers that people read.
func (s *Server) writeIndented(w http.ResponseWriter, status int, v any) {
	s.sendJSON(w, status, v, "  ")
}

// sendJSON encodes before it writes, so that what cannot be encoded is a 500 and not half an answer.
func (s *Server) sendJSON(w http.ResponseWriter, status int, v any, indent string) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(s.o.Compat == Compat02) // the answer is never HTML: names stay readable, except as 0.2 wrote them
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		s.log.Error("an answer could not be encoded", "error", err)
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"error":"internal error: the server's log has the details"}` + "\n")
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
