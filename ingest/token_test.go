package ingest

import (
	"errors"
	"testing"
	"testing/synctest"
)

// TestTokenChanges changes the token while a relay is connected: the relay stays, and the next
// connection needs the new token.
func TestTokenChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Token = "one" })
		identify := func(line string) *peer {
			p := w.dial()
			p.send(line)
			return p
		}
		a := identify("id a one")
		a.want("ok")
		a.want("beat 30")
		a.want("takes past")
		var invalid *Error
		if err := w.srv.SetToken("two words"); !errors.As(err, &invalid) || !errors.Is(err, ErrInvalid) {
			t.Errorf("a token that no relay could send: %v", err)
		}
		if err := w.srv.SetToken("two"); err != nil {
			t.Fatal(err)
		}
		identify("id b one").want("error wrong token: send id {id} {token}")
		identify("id c two").want("ok")
		if err := w.srv.SetToken(""); err != nil {
			t.Fatal(err)
		}
		identify("id d").want("ok")
		a.send("ping")
		a.want("pong")
	})
}
