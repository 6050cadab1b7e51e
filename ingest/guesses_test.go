package ingest

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"

	"github.com/nanopack/pulse/internal/guesses"
)

// Guesses of relay tokens are limited as guesses of API tokens are. From an address with too many
// guesses, the right token is accepted only if it was accepted from there before. A relay that
// gives no token does not guess.
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

		// The relay is told how long to wait. All connections without an IP address count as one
		// address.
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
