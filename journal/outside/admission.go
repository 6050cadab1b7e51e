package outside

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
)

// admission decides which clients may connect: those that give the user and the password. It
// outlives the runs of the server.
type admission struct {
	user     string
	password atomic.Pointer[[sha256.Size]byte] // its sum
	guessers *guesses.Limiter
	banned   *bans
	refused  func(reason, text string)
}

func newAdmission(o Options, refused func(reason, text string)) *admission {
	a := &admission{user: o.User, guessers: guesses.New(), banned: newBans(), refused: refused}
	a.setPassword(o.Password)
	return a
}

func (a *admission) setPassword(password string) {
	sum := sha256.Sum256([]byte(password))
	a.password.Store(&sum)
}

// check reports whether a client from there may connect. No password at all is no guess.
func (a *admission) check(from netip.Prefix, now time.Time, user, password string) bool {
	if a.banned.holds(from, now) {
		a.refused("flood", from.String()+" sent too much a moment ago")
		return false
	}
	var given []string
	if password != "" {
		given = []string{password}
	}
	ok, wait := a.guessers.Judge(from, now, given, func(password string) bool {
		sum := sha256.Sum256([]byte(password))
		right := subtle.ConstantTimeCompare(sum[:], a.password.Load()[:])
		return right&subtle.ConstantTimeCompare([]byte(user), []byte(a.user)) == 1
	})
	if wait > 0 && !ok {
		a.refused("guesses", "too many wrong passwords came from "+from.String())
	}
	return ok
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
