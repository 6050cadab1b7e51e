package guesses

import (
	"net/netip"
	"slices"
	"time"
)

// Level is what a token allows.
type Level uint8

// Levels of a token, in order.
const (
	Nothing    Level = iota // no token is right
	Reading                 // the token that only reads
	Everything              // the token
)

// Tokens are the token that allows everything and the one that only reads. Each has a limiter of its
// own: an address that gave the lesser one may still not guess the other as fast as it can. The
// methods are safe for concurrent use.
type Tokens struct {
	everything, reading Secret
	every, read         *Limiter
}

// NewTokens returns the two tokens, as Set takes them.
func NewTokens(everything, reading string) *Tokens {
	t := &Tokens{every: New(), read: New()}
	t.Set(everything, reading)
	return t
}

// Set changes the tokens; "" means that there is none of the kind.
func (t *Tokens) Set(everything, reading string) {
	t.everything.Set(everything)
	t.reading.Set(reading)
}

// SetLimit replaces Limit. It is to be called before the first Judge.
func (t *Tokens) SetLimit(n int) { t.every.Limit, t.read.Limit = n, n }

// None reports whether no token is asked for: there is none that allows everything.
func (t *Tokens) None() bool { return t.everything.None() }

// Judge returns the most that one of the tokens given by an address allows. If that is Nothing, wait
// is how long the address is refused, as [Limiter.Judge] has it.
func (t *Tokens) Judge(from netip.Prefix, now time.Time, given []string) (to Level, wait time.Duration) {
	// The reading token is no guess at the other one.
	guessed := slices.DeleteFunc(slices.Clone(given), t.reading.Equal)
	ok, wait := t.every.Judge(from, now, guessed, t.everything.Equal)
	if ok {
		return Everything, 0
	}
	ok, waitReading := t.read.Judge(from, now, given, t.reading.Equal)
	if ok {
		return Reading, 0
	}
	return Nothing, max(wait, waitReading)
}

// Refusal returns the message for an address that is refused for wait, of being what was guessed.
func (t *Tokens) Refusal(of string, from netip.Prefix, now time.Time, wait time.Duration) string {
	return t.every.Refusal(of, from, now, wait)
}
