package journal

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nanopack/pulse/internal/guesses"
)

// admission decides who may connect to the server: Pulse itself from inside the process, and outside clients that give
// the user and the password. It outlives the runs of the server.
type admission struct {
	user     string
	password atomic.Pointer[[sha256.Size]byte] // its sum
	guessers *guesses.Limiter
	banned   *bans
	refused  func(reason, text string)
}

func newAdmission(o *Outside, refused func(reason, text string)) *admission {
	a := &admission{user: o.User, guessers: guesses.New(), banned: newBans(), refused: refused}
	a.setPassword(o.Password)
	return a
}

func (a *admission) setPassword(password string) {
	sum := sha256.Sum256([]byte(password))
	a.password.Store(&sum)
}

// SetOutsidePassword changes what outside clients must give from now on. Those that are connected stay so. It does
// nothing if outside clients are not let in.
func (j *Journal) SetOutsidePassword(password string) {
	if j.o.strangers != nil {
		j.o.strangers.admission.setPassword(password)
	}
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
		return subtle.ConstantTimeCompare(sum[:], a.password.Load()[:])&subtle.ConstantTimeCompare([]byte(user), []byte(a.user)) == 1
	})
	if wait > 0 && !ok {
		a.refused("guesses", "too many wrong passwords came from "+from.String())
	}
	return ok
}

// authenticator is admission as a run of the server asks it.
type authenticator struct {
	admission *admission // nil: nobody from outside
	cred      credentials
	srv       *server.Server
	users     map[string]*server.User // by their names in the configuration
}

func newAuthenticator(cred credentials, s *strangers, users []*server.User) *authenticator {
	a := &authenticator{cred: cred, users: make(map[string]*server.User, len(users))}
	if s != nil {
		a.admission = s.admission
	}
	for _, u := range users {
		a.users[u.Username] = u
	}
	return a
}

// Check implements server.Authentication.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	given := c.GetOpts()
	name := given.Username
	if from, ok := c.RemoteAddress().(*net.TCPAddr); ok {
		if a.admission == nil || !a.admission.check(guesses.Origin(from.String()), time.Now(), given.Username, given.Password) {
			return false
		}
		name = outsideUser
	} else if name == outsideUser || subtle.ConstantTimeCompare([]byte(given.Password), []byte(a.cred.password)) != 1 {
		return false
	}
	user, ok := a.users[name]
	if !ok {
		return false
	}
	account, err := a.srv.LookupAccount(user.Account.GetName())
	if err != nil {
		return false
	}
	u := *user
	u.Account, u.Username = account, given.Username
	c.RegisterUser(&u)
	return true
}
