package query

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
)

// tokenName is both a header and, in exactly this case, a query parameter, as Pulse 0.2 had it.
const tokenName = "X-AUTH-TOKEN"

// SetTokens changes the tokens that requests must give from now on: the one that allows everything
// ("": none is asked for), and the one that only reads ("": there is none). Requests and streams that
// are under way go on.
func (s *Server) SetTokens(everything, reading string) { s.tokens.Set(everything, reading) }

// tokens returns what a request holds in the places where a token may be.
func tokens(r *http.Request) (list []string) {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		bearer = ""
	}
	given := []string{r.Header.Get(tokenName), strings.TrimSpace(bearer), queryValue(r, tokenName)}
	// A browser sends Basic by itself once it has it, also for pages of other origins. So it is taken
	// only where nothing changes.
	if path := strings.TrimSuffix(r.URL.Path, "/"); path == "/query" || path == "/ping" {
		given = append(given, influxPasswords(r)...)
	}
	for _, v := range given {
		if v != "" {
			list = append(list, v)
		}
	}
	return list
}

// influxPasswords are the passwords in the places where clients of InfluxDB send them, whatever the
// user: Basic, "Token user:password", and the parameter p.
func influxPasswords(r *http.Request) (list []string) {
	if _, password, ok := r.BasicAuth(); ok {
		list = append(list, password)
	}
	if scheme, both, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Token") {
		_, password, _ := strings.Cut(both, ":")
		list = append(list, strings.TrimSpace(password))
	}
	return append(list, queryValue(r, "p"))
}

// queryValue is the first value of a query parameter, "" if there is none.
func queryValue(r *http.Request, name string) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get(name)
}

// admit reports whether a request may go on, and whether it may do everything or only read. leave is
// to be called when the request has ended. A request that may not go on has been answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, to access) (leave func(), level guesses.Level, ok bool) {
	leave = func() {}
	if to == open || s.tokens.None() {
		return leave, guesses.Everything, true
	}
	from, now := guesses.Origin(r.RemoteAddr), s.o.Now()
	level, wait := s.tokens.Judge(from, now, tokens(r))
	if level == guesses.Everything || level == guesses.Reading && to != everything {
		return leave, level, true
	}
	if level == guesses.Reading {
		s.writeError(w, r, &httpError{status: http.StatusForbidden, text: "forbidden: this token only reads: send the server's --token"})
		return leave, level, false
	}
	of, refusal := "token", s.tokens.Refusal
	if to == ticketed {
		if name := queryValue(r, ticketName); name != "" {
			of, refusal = ticketName, s.ticketGuesses.Refusal
			ok, wait = s.ticketGuesses.Judge(from, now, []string{name}, func(name string) bool {
				left, ok := s.tickets.enter(name, now)
				if ok {
					leave = func() { left(s.o.Now()) }
				}
				return ok
			})
		}
	}
	switch {
	case ok:
		return leave, guesses.Reading, true
	case wait > 0:
		s.tooManyGuesses(w, r, of, wait, refusal(of, from, now, wait))
	default:
		s.unauthorized(w, r)
	}
	return leave, level, false
}

// unauthorized answers 401.
func (s *Server) unauthorized(w http.ResponseWriter, r *http.Request) {
	s.metrics.unauthorized.Inc()
	w.Header().Set("WWW-Authenticate", `Bearer realm="pulse"`)
	s.turnAway(w, r, http.StatusUnauthorized, "unauthorized: send the server's token as header X-AUTH-TOKEN, as Authorization: Bearer, or as a password")
}

// tooManyGuesses answers 429.
func (s *Server) tooManyGuesses(w http.ResponseWriter, r *http.Request, of string, wait time.Duration, text string) {
	seconds := guesses.Seconds(wait)
	s.metrics.guesses.WithLabelValues(of).Inc()
	s.guessed.Do(func() {
		s.log.Warn("an address gave too many wrong "+of+"s and is refused for a while", "address", r.RemoteAddr, "seconds", seconds)
	})
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	s.turnAway(w, r, http.StatusTooManyRequests, text)
}

// turnAway answers a request without the right token and closes the connection, so that nobody
// without the token can hold a connection open.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, status int, text string) {
	w.Header().Set("Connection", "close")
	if s.o.Compat == Compat02 {
		w.Header().Del("WWW-Authenticate")
		w.WriteHeader(status)
		return
	}
	s.writeError(w, r, &httpError{status: status, text: text})
}
