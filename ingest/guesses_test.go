package ingest

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"

	"github.com/nanopack/pulse/internal/guesses"
)

// Tokens of relays are guessed at the pace at which tokens of the API are. A fleet behind an
// address from which somebody guesses is let in, once one of it was; relays that give no token
// guess nothing.
func TestGuessedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Token = "s3cret" })
		guesser, fleet := &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 1}, &net.TCPAddr{IP: net.IPv4(203, 0, 113, 8), Port: 1}
		want := func(from net.Addr, token string, right, refused bool) {
			t.Helper()
			label, line := w.srv.tokens.judge(from, []byte(token))
			if (label == "") != right || (label == refusedGuesses) != refused || (line == "") != right {
				t.Errorf("%v with %q: %q, %q", from, token, label, line)
			}
		}
		want(fleet, "s3cret", true, false)
		for i := range guesses.Limit {
			for range 3 {
				want(guesser, "", false, false)
			}
			want(guesser, fmt.Sprint("guess", i), false, false)
			want(fleet, fmt.Sprint("guess", i), false, false)
		}
		want(guesser, "one too many", false, true)
		want(guesser, "s3cret", false, true)
		want(fleet, "one too many", false, true)
		want(fleet, "s3cret", true, false)
		want(guesser, "", false, false)

		// Over the wire it is told how long to wait; what has no address of the internet counts as
		// one.
		for i := range guesses.Limit {
			p := w.dial()
			p.send(fmt.Sprint("id web1 guess", i))
			p.want("error wrong token: send id {id} {token}")
			p.wantClosed()
		}
		p := w.dial()
		p.send("id web1 onemore")
		p.want("error too many wrong tokens came from your address: wait 60 s")
		p.wantClosed()
		settle()
		w.wantMetric(1, "connections_refused_total", "reason", refusedGuesses)
	})
}
