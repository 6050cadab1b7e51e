package journal

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// admission decides which outside clients may connect: those that give the user and the password. It outlives the runs
// of the server.
type admission struct {
	user     string
	password atomic.Pointer[[sha256.Size]byte] // its sum
}

func newAdmission(o *Outside) *admission {
	a := &admission{user: o.User}
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

func (a *admission) check(user, password string) bool {
	sum := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(sum[:], a.password.Load()[:])&subtle.ConstantTimeCompare([]byte(user), []byte(a.user)) == 1
}

// authenticator is admission as a run of the server asks it. The server's own check would have it end the connections
// of a user whose password changes.
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
	if _, ok := c.RemoteAddress().(*net.TCPAddr); ok {
		if a.admission == nil || !a.admission.check(given.Username, given.Password) {
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
