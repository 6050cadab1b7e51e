// Package guesses slows down clients that guess a secret, without locking out clients that have it.
// The API, the relay port and the NATS listener share one limiter.
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
	// Limit is how many wrong secrets an address may give within Window. After that the address is
	// refused for Pause.
	Limit  = 20
	Window = time.Minute
	Pause  = time.Minute
	// knownFor is how long an address counts as known after it gave the right secret.
	knownFor = 24 * time.Hour
	// maxGuessers bounds how many addresses are remembered, for wrong and for known separately.
	maxGuessers = 10_000
)

// Limiter judges the secrets that addresses give. It refuses an address that gave too many wrong
// secrets for a while, and does not check the secrets of that address meanwhile. Otherwise the
// address could find the right secret as fast as it can ask.
//
// A known address is an exception: the right secret always passes from there. An address is known
// if it gave the right secret lately, or if it is this machine, where a proxy may speak for many
// clients. So no client can lock out others that share its router.
//
// The methods are safe for concurrent use.
type Limiter struct {
	// Limit replaces the constant if it is set before the first use.
	Limit int

	mu    sync.Mutex // guards the fields below
	wrong map[netip.Prefix]*guesser
	known map[netip.Prefix]time.Time // when the right secret was last given
	swept time.Time                  // when old entries of wrong were last deleted
}

// guesser is an address that gave wrong secrets.
type guesser struct {
	since   time.Time // when the window began
	guesses int       // wrong secrets within the window
	barred  time.Time // when the refusal began; zero if there is none
}

// New returns a limiter that knows no address.
func New() *Limiter {
	return &Limiter{Limit: Limit, wrong: make(map[netip.Prefix]*guesser), known: make(map[netip.Prefix]time.Time)}
}

// Origin returns the network that an address (host:port) belongs to: a single IPv4 address, or the
// 64-bit prefix of an IPv6 address. A host can choose only the other 64 bits by itself.
func Origin(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // not an IP address: all of these count as one
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLoopback() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the length fits
	return p
}

// Judge reports whether one of the secrets that a request gives is right. If none is, wait is how
// long the address is refused from now on; 0 means that it is not refused, or that no secret was
// given. Judge holds the mutex throughout, so that concurrent guesses do not exceed the limit.
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

// Refusal returns the message for an address that gave too many wrong secrets of a kind and is
// refused for wait.
func (g *Limiter) Refusal(of string, from netip.Prefix, now time.Time, wait time.Duration) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isKnown(from, now) {
		return fmt.Sprintf("too many wrong %ss came from your address; the right one is taken at any time", of)
	}
	return fmt.Sprintf("too many wrong %ss came from your address: wait %d s", of, Seconds(wait))
}

// Seconds returns wait in whole seconds, rounded up.
func Seconds(wait time.Duration) int { return int(math.Ceil(wait.Seconds())) }

// isKnown reports whether the right secret always passes from an address. The caller holds mu.
func (g *Limiter) isKnown(from netip.Prefix, now time.Time) bool {
	return from.Addr().IsLoopback() || within(g.known[from], now, knownFor)
}

// remember notes that the right secret came from an address.
func (g *Limiter) remember(from netip.Prefix, now time.Time) {
	if _, is := g.known[from]; !is && len(g.known) >= maxGuessers {
		for p := range g.known { // any address: its next request makes it known again
			delete(g.known, p)
			break
		}
	}
	g.known[from] = now
}

// count notes that a wrong secret came from an address, and returns how long the address is refused
// from now on.
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

// room makes room for one more guesser. If all of them guessed within the last minute, room deletes
// any one. A client with ten thousand addresses therefore has ten thousand times the guesses.
func (g *Limiter) room(now time.Time) {
	if len(g.wrong) < maxGuessers {
		return
	}
	if !within(g.swept, now, Window) { // otherwise each guess would visit all entries
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

// wait returns how long the address is still refused.
func (one *guesser) wait(now time.Time) time.Duration {
	if one == nil || one.barred.IsZero() || !within(one.barred, now, Pause) {
		return 0
	}
	return Pause - now.Sub(one.barred)
}

// within reports whether less than d has passed since then. If the clock was set back, it reports
// false.
func within(then, now time.Time, d time.Duration) bool {
	passed := now.Sub(then)
	return passed >= 0 && passed < d
}
