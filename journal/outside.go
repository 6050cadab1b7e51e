package journal

import (
	"crypto/rand"
	"fmt"
)

// Accounts of the embedded server. The journal lives in an account of its own, whose only user may
// connect from inside the process: a permission list in a shared account is not enough, because an API
// request with a reply subject of pulse.readings.x would be stored as an event. Programs outside get a
// second account with imports; it is added here, to accountsConfig, and to nothing else.
const (
	accountPulse  = "PULSE"
	accountSystem = "SYS"
	userPulse     = "journal"
)

// credentials are made anew for each start of the server and never leave the process.
type credentials struct{ password string }

func newCredentials() credentials { return credentials{password: rand.Text()} }

// accountsConfig is the accounts block of the server's configuration.
func accountsConfig(c credentials) string {
	return fmt.Sprintf(`
accounts {
  %s {
    jetstream: enabled
    users: [ {user: %q, password: %q, allowed_connection_types: [IN_PROCESS]} ]
  }
  %s { users: [ {user: "system", password: %q, allowed_connection_types: [IN_PROCESS]} ] }
}
system_account: %s
`, accountPulse, userPulse, c.password, accountSystem, rand.Text(), accountSystem)
}
