package guesses

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// However many addresses guess, and however many are known, only so many are remembered.
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
