package ingest

import (
	"net"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/relaywire"
)

// tokenCheck is the token that relays have to give, and who guesses it. Its methods may be called
// from any goroutine.
type tokenCheck struct {
	token    guesses.Secret // without one, none is asked for
	guessers *guesses.Limiter
	now      func() time.Time
}

func newTokenCheck(token string, now func() time.Time) *tokenCheck {
	t := &tokenCheck{guessers: guesses.New(), now: now}
	t.set(token)
	return t
}

// set changes the token; "" asks for none.
func (t *tokenCheck) set(token string) { t.token.Set(relaywire.TrimToken(token)) }

// wanted reports whether relays have to give a token.
func (t *tokenCheck) wanted() bool { return !t.token.None() }

// judge judges the token that came from an address. It returns "" when the relay may enter, and
// otherwise why not, as the metric's label and as what the relay is told. No token at all is no
// guess.
func (t *tokenCheck) judge(from net.Addr, token []byte) (label, line string) {
	if !t.wanted() {
		return "", ""
	}
	var given []string
	if len(token) > 0 {
		given = []string{string(token)}
	}
	now, origin := t.now(), guesses.Origin(from.String())
	ok, wait := t.guessers.Judge(origin, now, given, t.token.Equal)
	switch {
	case ok:
		return "", ""
	case wait > 0:
		return refusedGuesses, t.guessers.Refusal("token", origin, now, wait)
	}
	return refusedToken, relaywire.ErrWrongToken.Error()
}
