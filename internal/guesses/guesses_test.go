package guesses

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// The number of remembered addresses is bounded, however many addresses guess and however many are
// known.
func TestGuessesAreBounded(t *testing.T) {
	g := New()
	address := func(i int) netip.Prefix {
		return Origin(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	now := time.Now()
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	one := []string{"x"}
	for i := range 2 * maxGuessers {
		g.Judge(address(i), now, one, none)
		g.Judge(address(i), now, one, all)
	}
	if len(g.wrong) != maxGuessers || len(g.known) != maxGuessers {
		t.Errorf("%d guessers and %d others", len(g.wrong), len(g.known))
	}
	g.Judge(address(3*maxGuessers), now.Add(2*Window), one, none)
	if len(g.wrong) != 1 {
		t.Errorf("%d guessers, all but one of which are silent", len(g.wrong))
	}
}

// A refusal tells a client to wait only if waiting helps. From a known address the right secret
// passes at once.
func TestRefusalIsTrue(t *testing.T) {
	g, now := New(), time.Now()
	right := func(s string) bool { return s == "right" }
	g.Judge(Origin("192.0.2.2:1"), now, []string{"right"}, right)
	for remote, passes := range map[string]bool{"192.0.2.1:1": false, "192.0.2.2:1": true, "127.0.0.1:1": true, "[::1]:1": true} {
		from := Origin(remote)
		var wait time.Duration
		for range g.Limit + 1 {
			_, wait = g.Judge(from, now, []string{"wrong"}, right)
		}
		want := "too many wrong tokens came from your address: wait 60 s"
		if passes {
			want = "too many wrong tokens came from your address; the right one is taken at any time"
		}
		if got := g.Refusal("token", from, now, wait); got != want {
			t.Errorf("%s is told %q, want %q", remote, got, want)
		}
		if ok, _ := g.Judge(from, now, []string{"right"}, right); ok != passes {
			t.Errorf("the right one from %s: %v", remote, ok)
		}
	}
}

func TestOrigin(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1/32", "[::ffff:192.0.2.1]:80": "192.0.2.1/32", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "[::1]:80": "::1/128", "127.0.0.1:1": "127.0.0.1/32", "@": "invalid Prefix", "": "invalid Prefix",
	} {
		if got := Origin(remote); got.String() != want {
			t.Errorf("%q is %s, want %s", remote, got, want)
		}
	}
}
