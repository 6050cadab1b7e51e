package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/relaywire"
)

// tokenCheck is the token that relays have to give, and who guesses it. Its methods may be called
// from any goroutine.
type tokenCheck struct {
	sum      atomic.Pointer[[sha256.Size]byte] // of the token; nil: none is asked for
	guessers *guesses.Limiter
	now      func() time.Time
}

func newTokenCheck(token string, now func() time.Time) *tokenCheck {
	t := &tokenCheck{guessers: guesses.New(), now: now}
	t.set(token)
	return t
}

// set changes the token; "" asks for none.
func (t *tokenCheck) set(token string) {
	if token == "" {
		t.sum.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(relaywire.TrimToken(token)))
	t.sum.Store(&sum)
}

// wanted reports whether relays have to give a token.
func (t *tokenCheck) wanted() bool { return t.sum.Load() != nil }

// judge judges the token that came from an address. It returns "" when the relay may enter, and
// otherwise why not, as the metric's label and as what the relay is told. No token at all is no
// guess.
func (t *tokenCheck) judge(from net.Addr, token []byte) (label, line string) {
	right := t.sum.Load()
	if right == nil {
		return "", ""
	}
	var given []string
	if len(token) > 0 {
		given = []string{string(token)}
	}
	now, origin := t.now(), guesses.Origin(from.String())
	ok, wait := t.guessers.Judge(origin, now, given, func(token string) bool {
		sum := sha256.Sum256([]byte(token)) // lengths are compared in constant time too
		return subtle.ConstantTimeCompare(sum[:], right[:]) == 1
	})
	switch {
	case ok:
		return "", ""
	case wait > 0:
		return refusedGuesses, t.guessers.Refusal("token", origin, now, wait)
	}
	return refusedToken, relaywire.ErrWrongToken.Error()
}
