package query

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
)

// tokenName is both a header and, in exactly this case, a query parameter, as Pulse 0.2 had it.
const tokenName = "X-AUTH-TOKEN"

// tokenCheck compares tokens in a time that does not depend on the right one, not even on its
// length. The right one may change at any time.
type tokenCheck struct {
	sum atomic.Pointer[[sha256.Size]byte] // nil: no token is asked for
}

func (c *tokenCheck) set(token string) {
	if token == "" {
		c.sum.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(token))
	c.sum.Store(&sum)
}

// none reports whether no token is asked for.
func (c *tokenCheck) none() bool { return c.sum.Load() == nil }

func (c *tokenCheck) equal(token string) bool {
	sum, right := sha256.Sum256([]byte(token)), c.sum.Load()
	return right != nil && subtle.ConstantTimeCompare(sum[:], right[:]) == 1
}

// SetToken changes the token that requests must give from now on. "" asks for none. Requests and
// streams that are under way go on.
func (s *Server) SetToken(token string) { s.token.set(token) }

// tokens returns what a request holds in the places where a token may be.
func tokens(r *http.Request) (list []string) {
	for _, v := range [...]string{r.Header.Get(tokenName), authorization(r), queryValue(r, tokenName), influxPassword(r)} {
		if v != "" {
			list = append(list, v)
		}
	}
	return list
}

// authorization is the token in the header Authorization: as Bearer, or as the password of Basic or
// of InfluxDB's "Token user:password", whatever the user.
func authorization(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	switch strings.ToLower(scheme) {
	case "bearer":
		return token
	case "basic":
		_, password, _ := r.BasicAuth()
		return password
	case "token":
		if _, password, ok := strings.Cut(token, ":"); ok {
			return password
		}
	}
	return ""
}

// influxPassword is the parameter p where clients of InfluxDB send it. Elsewhere p may be a tag.
func influxPassword(r *http.Request) string {
	if path := strings.TrimSuffix(r.URL.Path, "/"); path != "/query" && path != "/ping" {
		return ""
	}
	return queryValue(r, "p")
}

// queryValue is the first value of a query parameter, "" if there is none.
func queryValue(r *http.Request, name string) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get(name)
}

// admit reports whether a request may go on. leave is to be called when the request has ended. A
// request that may not go on has been answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, to access) (leave func(), ok bool) {
	leave = func() {}
	if to == open || s.token.none() {
		return leave, true
	}
	from, now := guesses.Origin(r.RemoteAddr), s.o.Now()
	ok, wait := s.tokenGuesses.Judge(from, now, tokens(r), s.token.equal)
	if ok {
		return leave, true
	}
	of := "token"
	if to == ticketed {
		if name := queryValue(r, ticketName); name != "" {
			of = ticketName
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
	case wait > 0:
		limiter := s.tokenGuesses
		if of == ticketName {
			limiter = s.ticketGuesses
		}
		s.tooManyGuesses(w, r, of, wait, limiter.Refusal(of, from, now, wait))
	default:
		s.unauthorized(w, r)
	}
	return leave, ok
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
