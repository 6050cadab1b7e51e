package journal

import (
	"crypto/subtle"
	"net"

	"github.com/nats-io/nats-server/v2/server"
)

// authenticator decides who may connect to a run of the server: the journal itself from inside the
// process, and whom Outside admits.
type authenticator struct {
	outside  Outside // nil: nobody over TCP
	password string
	srv      *server.Server
	users    map[string]*server.User // by their names in the configuration
}

func newAuthenticator(outside Outside, password string, users []*server.User) *authenticator {
	a := &authenticator{outside: outside, password: password, users: make(map[string]*server.User, len(users))}
	for _, u := range users {
		a.users[u.Username] = u
	}
	return a
}

// Check implements server.Authentication.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	given := c.GetOpts()
	name, ok := given.Username, false
	if _, tcp := c.RemoteAddress().(*net.TCPAddr); !tcp {
		ok = subtle.ConstantTimeCompare([]byte(given.Password), []byte(a.password)) == 1
	} else if a.outside != nil {
		name, ok = a.outside.Admit(c)
	}
	configured, known := a.users[name]
	if !ok || !known {
		return false
	}
	account, err := a.srv.LookupAccount(configured.Account.GetName())
	if err != nil {
		return false
	}
	user := *configured
	user.Account, user.Username = account, given.Username
	c.RegisterUser(&user)
	return true
}
