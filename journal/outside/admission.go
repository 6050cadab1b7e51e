package outside

import (
	"crypto/subtle"
	"net/netip"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
)

// admission decides which clients may connect: those that give the user and a password. It outlives
// the runs of the server.
type admission struct {
	user      string
	passwords *guesses.Tokens
	banned    *bans
	refused   func(reason, text string)
}

func newAdmission(o Options, refused func(reason, text string)) *admission {
	return &admission{user: o.User, passwords: guesses.NewTokens(o.Password, o.ReadPassword), banned: newBans(), refused: refused}
}

// check returns what a client from there may do. No password at all is no guess.
func (a *admission) check(from netip.Prefix, now time.Time, user, password string) guesses.Level {
	if a.banned.holds(from, now) {
		a.refused("flood", from.String()+" sent too much a moment ago")
		return guesses.Nothing
	}
	var given []string
	switch {
	case password == "":
	case subtle.ConstantTimeCompare([]byte(user), []byte(a.user)) == 1:
		given = []string{password}
	default:
		given = []string{""} // a wrong guess, whatever the password
	}
	level, wait := a.passwords.Judge(from, now, given)
	if level == guesses.Nothing && wait > 0 {
		a.refused("guesses", "too many wrong passwords came from "+from.String())
	}
	return level
}

// bans are the addresses from which nobody may connect for a while.
type bans struct {
	mu    sync.Mutex
	since map[netip.Prefix]time.Time
}

func newBans() *bans { return &bans{since: make(map[netip.Prefix]time.Time)} }

func (b *bans) add(from netip.Prefix, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, since := range b.since {
		if !banned(since, now) || len(b.since) >= maxBans {
			delete(b.since, p)
		}
	}
	b.since[from] = now
}

func (b *bans) holds(from netip.Prefix, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return banned(b.since[from], now)
}

// banned reports whether a ban still holds. A clock that was set back ends it.
func banned(since, now time.Time) bool {
	passed := now.Sub(since)
	return passed >= 0 && passed < banTime
}
