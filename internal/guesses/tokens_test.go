package guesses_test

import (
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
)

func TestTokens(t *testing.T) {
	tokens := guesses.NewTokens("all", "read")
	now := time.Unix(1000, 0)
	from := guesses.Origin("192.0.2.1:5")
	for _, tt := range []struct {
		given []string
		want  guesses.Level
	}{
		{nil, guesses.Nothing}, {[]string{"wrong"}, guesses.Nothing}, {[]string{"all"}, guesses.Everything},
		{[]string{"read"}, guesses.Reading}, {[]string{"read", "all"}, guesses.Everything},
		{[]string{"wrong", "read"}, guesses.Reading}, {[]string{""}, guesses.Nothing},
	} {
		if got, wait := tokens.Judge(from, now, tt.given); got != tt.want || wait != 0 {
			t.Errorf("%q: %v, wait %v", tt.given, got, wait)
		}
	}
	tokens.Set("all", "")
	if got, _ := tokens.Judge(from, now, []string{""}); got != guesses.Nothing {
		t.Errorf("an empty token allows %v where no token only reads", got)
	}
	if tokens.None() {
		t.Error("there is a token")
	}
	if tokens.Set("", ""); !tokens.None() {
		t.Error("there is no token")
	}
}

// An address that gave the reading token guesses the other one no faster than any address does, also
// if it gives both at a time. It reads on meanwhile.
func TestReadersGuessNoFaster(t *testing.T) {
	tokens := guesses.NewTokens("all", "read")
	now := time.Unix(1000, 0)
	from := guesses.Origin("192.0.2.1:5")
	for range guesses.Limit + 1 {
		if got, _ := tokens.Judge(from, now, []string{"guess", "read"}); got != guesses.Reading {
			t.Fatalf("a reader who guesses is allowed %v", got)
		}
	}
	if got, _ := tokens.Judge(from, now, []string{"all", "read"}); got != guesses.Reading {
		t.Errorf("after %d guesses the right one still allows %v", guesses.Limit, got)
	}
	if got, wait := tokens.Judge(from, now, []string{"all"}); got != guesses.Nothing || wait == 0 {
		t.Errorf("after %d guesses: %v, wait %v", guesses.Limit, got, wait)
	}
	if got, _ := tokens.Judge(from, now, []string{"read"}); got != guesses.Reading {
		t.Errorf("the reader is allowed %v", got)
	}
	if got, _ := tokens.Judge(from, now.Add(2*guesses.Pause), []string{"all"}); got != guesses.Everything {
		t.Errorf("after the pause: %v", got)
	}
}

// Guesses at the reading token are slowed down as those at the token are.
func TestGuessesAtTheReadingToken(t *testing.T) {
	tokens := guesses.NewTokens("all", "read")
	now := time.Unix(1000, 0)
	from := guesses.Origin("192.0.2.1:5")
	for range guesses.Limit + 1 {
		if got, _ := tokens.Judge(from, now, []string{"guess"}); got != guesses.Nothing {
			t.Fatalf("a guess is allowed %v", got)
		}
	}
	if got, wait := tokens.Judge(from, now, []string{"read"}); got != guesses.Nothing || wait == 0 {
		t.Errorf("after %d guesses: %v, wait %v", guesses.Limit, got, wait)
	}
}
