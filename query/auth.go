package query

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// tokenName is both a header and, in exactly this case, a query parameter, as Pulse 0.2 had it.
const tokenName = "X-AUTH-TOKEN"

// tokenCheck compares tokens in a time that tells nothing about the right one, not even its length.
type tokenCheck struct {
	none bool // no token is asked for
	sum  [sha256.Size]byte
}

func newTokenCheck(token string) tokenCheck {
	return tokenCheck{none: token == "", sum: sha256.Sum256([]byte(token))}
}

// passes tells whether one of the places where a token may be holds the right one.
func (c tokenCheck) passes(r *http.Request) bool {
	if c.none {
		return true
	}
	if v := r.Header.Values(tokenName); len(v) > 0 && c.equal(v[0]) {
		return true
	}
	if scheme, v, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok &&
		strings.EqualFold(scheme, "Bearer") && c.equal(strings.TrimSpace(v)) {
		return true
	}
	if r.URL.RawQuery == "" {
		return false
	}
	v, ok := r.URL.Query()[tokenName]
	return ok && c.equal(v[0])
}

func (c tokenCheck) equal(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], c.sum[:]) == 1
}

// unauthorized answers 401 and closes the connection, so that nobody without the token can hold one open.
func (s *Server) unauthorized(w http.ResponseWriter, r *http.Request) {
	s.metrics.unauthorized.Inc()
	w.Header().Set("Connection", "close")
	if s.o.Compat == Compat02 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="pulse"`)
	s.writeError(w, r, &httpError{status: http.StatusUnauthorized,
		text: "unauthorized: send the server's token as header X-AUTH-TOKEN or as Authorization: Bearer"})
}
