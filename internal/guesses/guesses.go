// Package guesses slows down who guesses a secret, without locking out those who have it: one
// limiter for the API, the relay port and the NATS listener.
package guesses

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// Limit is how many wrong secrets an address may give within Window. After that it is refused
	// for Pause.
	Limit  = 20
	Window = time.Minute
	Pause  = time.Minute
	// knownFor is how long an address that gave the right token is known for it.
	knownFor = 24 * time.Hour
	// maxGuessers bounds how many addresses are remembered of either kind.
	maxGuessers = 10_000
)

// Limiter judges the secrets that addresses give. An address that gave too many wrong ones is
// refused for a while and what it says is not looked at, or the right one would still be found as
// fast as it can ask. Unless it is known: it gave the right one lately, or it is this machine,
// where a proxy may speak for many. From there the right one always passes, so that nobody locks
// out those behind the same router.
//
// Its methods are safe for concurrent use.
type Limiter struct {
	// Limit is the constant, unless it is set before the first use.
	Limit int

	mu    sync.Mutex // guards what follows
	wrong map[netip.Prefix]*guesser
	known map[netip.Prefix]time.Time // when the right one was last given
	swept time.Time                  // when wrong was last gone over
}

// guesser is an address that gave wrong tokens.
type guesser struct {
	since   time.Time // when the window began
	guesses int       // in it
	barred  time.Time // when it was refused; zero if it is not
}

// New makes a limiter that knows nobody.
func New() *Limiter {
	return &Limiter{Limit: Limit, wrong: make(map[netip.Prefix]*guesser), known: make(map[netip.Prefix]time.Time)}
}

// Origin is whom an address (host:port) stands for: one of IPv4, and the 64 bits of IPv6 that a
// host cannot choose by itself.
func Origin(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // no address of the internet: they count as one
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLoopback() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the length fits
	return p
}

// Judge looks for a right secret among those that a request gives. Without one, wait is how long
// the address is refused; 0 means that it is not, or that nothing was given. One at a time, so that
// many guesses at once are not more than allowed.
func (g *Limiter) Judge(from netip.Prefix, now time.Time, given []string, right func(string) bool) (ok bool, wait time.Duration) {
	if len(given) == 0 {
		return false, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	wait = g.wrong[from].wait(now)
	if wait > 0 && !g.isKnown(from, now) {
		return false, wait
	}
	if slices.ContainsFunc(given, right) {
		g.remember(from, now)
		return true, 0
	}
	if wait == 0 {
		wait = g.count(from, now)
	}
	return false, wait
}

// Refusal is what an address is told that gave too many wrong secrets of a kind, and is refused for
// wait.
func (g *Limiter) Refusal(of string, from netip.Prefix, now time.Time, wait time.Duration) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isKnown(from, now) {
		return fmt.Sprintf("too many wrong %ss came from your address; the right one is taken at any time", of)
	}
	return fmt.Sprintf("too many wrong %ss came from your address: wait %d s", of, Seconds(wait))
}

// Seconds is a wait in whole seconds, rounded up.
func Seconds(wait time.Duration) int { return int(math.Ceil(wait.Seconds())) }

// isKnown reports whether the right secret always passes from there. It needs mu.
func (g *Limiter) isKnown(from netip.Prefix, now time.Time) bool {
	return from.Addr().IsLoopback() || within(g.known[from], now, knownFor)
}

// remember notes that the right secret came from there.
func (g *Limiter) remember(from netip.Prefix, now time.Time) {
	if _, is := g.known[from]; !is && len(g.known) >= maxGuessers {
		for p := range g.known { // any one: it will be known again with its next request
			delete(g.known, p)
			break
		}
	}
	g.known[from] = now
}

// count notes that a wrong secret came from there, and returns how long it is refused now.
func (g *Limiter) count(from netip.Prefix, now time.Time) (wait time.Duration) {
	one := g.wrong[from]
	if one == nil {
		g.room(now)
		one = &guesser{}
		g.wrong[from] = one
	}
	if !within(one.since, now, Window) || !one.barred.IsZero() {
		*one = guesser{since: now}
	}
	if one.guesses++; one.guesses > g.Limit {
		one.barred = now
	}
	return one.wait(now)
}

// room makes room for one more guesser. When all of them guessed within the last minute, any one is
// forgotten: who has ten thousand addresses has ten thousand times the guesses.
func (g *Limiter) room(now time.Time) {
	if len(g.wrong) < maxGuessers {
		return
	}
	if !within(g.swept, now, Window) { // or each guess would cost a look at all of them
		g.swept = now
		for p, one := range g.wrong {
			if one.wait(now) == 0 && !within(one.since, now, Window) {
				delete(g.wrong, p)
			}
		}
	}
	for p := range g.wrong {
		if len(g.wrong) < maxGuessers {
			return
		}
		delete(g.wrong, p)
	}
}

// wait is how long this one is still refused.
func (one *guesser) wait(now time.Time) time.Duration {
	if one == nil || one.barred.IsZero() || !within(one.barred, now, Pause) {
		return 0
	}
	return Pause - now.Sub(one.barred)
}

// within tells whether less than d has passed since then. A clock that was set back makes
// everything long ago.
func within(then, now time.Time, d time.Duration) bool {
	passed := now.Sub(then)
	return passed >= 0 && passed < d
}
