package relay_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/relaywire/relay"
)

const (
	missing = "error missing token: send id {id} token:{token}"
	wrong   = "error wrong token: send id {id} {token}"
)

// TestTokenIsGivenWhenAskedFor: the relay sends its token only after the server has asked for one,
// even if the server changes its mind from connection to connection.
func TestTokenIsGivenWhenAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		log := &logtest.Buffer{}
		r := start(t, relay.Options{Address: s.addr, ID: "web 1", Token: "s3cret", Dial: s.dial, Logger: log.Logger()})
		first := func() *peer {
			t.Helper()
			p := s.next()
			p.expect("id web 1")
			return p
		}
		end := func(p *peer) {
			t.Helper()
			p.say("ok", "beat 30")
			wait(t, r)
			p.hangUp()
		}

		p := first() // the server wants no token
		end(p)
		p = first() // the server still wants none
		end(p)
		p = first() // the server wants one
		p.say(missing)
		p.expect("id web 1 token:s3cret")
		end(p)
		p = first() // a release that knows only the bare token
		p.say(wrong)
		p.hangUp()
		p = s.next()
		p.expect("id web 1 s3cret")
		end(p)
		p = first() // the server wants none again
		end(p)
		if n := log.Count("wants no token"); n != 1 {
			t.Errorf("it was said %d times that the token is not wanted", n)
		}
		if log.Count("s3cret") > 0 {
			t.Error("the token is in the log")
		}
	})
}

// TestTokenRefused: a wrong token is not tried again in another form, and the error says why it was
// refused.
func TestTokenRefused(t *testing.T) {
	for name, ask := range map[string]struct{ question, token, answer, want string }{
		"today's server":    {missing, "token:s3cret", wrong, "wrong token"},
		"an older server":   {wrong, "s3cret", wrong, "wrong token"},
		"it asks for ever":  {missing, "token:s3cret", missing, "missing token"},
		"another complaint": {missing, "token:s3cret", "error too many relays: the limit is 1", "too many relays"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := pipes(t)
				r := start(t, relay.Options{Address: s.addr, ID: "web1", Token: "s3cret", Dial: s.dial})
				for range 2 {
					p := s.next()
					p.expect("id web1")
					p.say(ask.question)
					if ask.question == wrong {
						p.hangUp()
						p = s.next()
					}
					p.expect("id web1 " + ask.token)
					p.say(ask.answer)
					p.expectHangUp()
				}
				r.Close()
				err := r.State().LastError
				if !errors.Is(err, relay.ErrRefused) || !strings.Contains(err.Error(), ask.want) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestWithoutATokenNothingIsSentTwice: a relay that has no token closes the connection to a server
// that asks for one.
func TestWithoutATokenNothingIsSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		start(t, relay.Options{Address: s.addr, ID: "web1", Dial: s.dial})
		for _, question := range []string{missing, wrong} {
			p := s.next()
			p.expect("id web1")
			p.say(question)
			p.expectHangUp()
		}
	})
}
