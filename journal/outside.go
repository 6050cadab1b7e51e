package journal

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nanopack/pulse/journal/codec"
)

// Outside opens the journal to other people's programs: any NATS client may connect, subscribe, and read the
// stream through consumers of its own. It can change nothing; see docs/SUBSCRIBE.md for what it may ask for.
// Address, User and Password are required.
type Outside struct {
	// Address is host:port to listen on. Port 0 takes a free one and keeps it ([Journal.OutsideAddr] tells).
	Address string
	// User and Password are what a client gives.
	User, Password string
	// TLS makes clients speak TLS (nil: plain).
	TLS *tls.Config
	// MaxConnections is how many clients may be connected at a time (0: DefaultOutsideConnections). A client that
	// does not take what it asked for costs up to 16 MiB before it is cut off.
	MaxConnections int
	// MaxConsumers is how many consumers they may have on the stream together (0: DefaultOutsideConsumers). When they
	// are all there and one more is asked for, the ephemeral one that has been idle for longest goes.
	MaxConsumers int
	// MaxSubscriptions is how many subscriptions each connection may have (0: DefaultOutsideSubscriptions).
	MaxSubscriptions int
}

// Limits of outside clients, if [Outside] names no others.
const (
	DefaultOutsideConnections   = 64
	DefaultOutsideConsumers     = 256
	DefaultOutsideSubscriptions = 256
)

// outsidePayload bounds what a client may send at once: acknowledgements and requests, never data.
const outsidePayload = 32 << 10

// bcrypted is what the server takes for the hash of a password instead of the password.
var bcrypted = regexp.MustCompile(`^\$2[abxy]\$\d{2}\$`)

// maxPassword is what fits of a password, as JSON has it, into a client's CONNECT, which the server takes 4 KiB of.
const maxPassword = 3 << 10

// CheckPassword says why no client could give a password, such as "is longer than ...", and nothing of it.
func CheckPassword(password string) error {
	text, err := json.Marshal(password)
	switch {
	case bcrypted.MatchString(password):
		return errors.New("looks like a bcrypt hash, which no client could give")
	case err != nil || len(text) > maxPassword:
		return fmt.Errorf("is longer than %d bytes, which no client could give", maxPassword)
	case !utf8.ValidString(password):
		return errors.New("is not UTF-8, which no client could give")
	}
	return nil
}

func (o *Outside) withDefaults() (*Outside, error) {
	if o == nil {
		return nil, nil
	}
	c := *o
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("journal: Outside.Address must be host:port: %w", err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, fmt.Errorf("journal: Outside.Address: %q is no port; give a number from 0 to 65535", port)
	}
	if c.User == "" || c.Password == "" {
		return nil, errors.New("journal: Outside needs a User and a Password")
	}
	if err := CheckPassword(c.Password); err != nil {
		return nil, fmt.Errorf("journal: Outside.Password %w; choose another", err)
	}
	if c.MaxConnections < 0 || c.MaxConsumers < 0 || c.MaxSubscriptions < 0 {
		return nil, errors.New("journal: a negative limit in Outside; give a positive one, or 0 for the default")
	}
	for _, limit := range []struct{ have, or *int }{
		{&c.MaxConnections, ptr(DefaultOutsideConnections)},
		{&c.MaxConsumers, ptr(DefaultOutsideConsumers)},
		{&c.MaxSubscriptions, ptr(DefaultOutsideSubscriptions)},
	} {
		if *limit.have == 0 {
			*limit.have = *limit.or
		}
	}
	return &c, nil
}

func ptr[T any](v T) *T { return &v }

// Accounts of the embedded server. The journal lives in an account of its own, whose only user may connect from
// inside the process: a permission list in a shared account is not enough, because an API request with a reply
// subject of pulse.readings.x would be stored as an event. Programs outside get a second account, into which nothing
// but streams of messages is imported; what they ask for goes through the gate (gate.go). What is published live
// comes from a third, so that nothing in the journal's account can be made to look like it, and copies of what was
// committed from a fourth (copies.go).
const (
	accountPulse   = "PULSE"
	accountLive    = "LIVE"
	accountCopies  = "COPIES"
	accountOutside = "OUTSIDE"
	accountSystem  = "SYS"

	userPulse  = "journal"
	userLive   = "live"
	userCopies = "copies"
	userGate   = "gate"

	// inboxes is where clients wait for answers, and answers the same place as the journal's account sees it.
	inboxes = "_INBOX."
	answers = "outside."
	// requests is where the requests of clients arrive: beside the API of the server, which answers in every account.
	requests = "gate.api."
	api      = "$JS.API."
	acks     = "$JS.ACK."
)

// credentials are made anew for each start of the server and never leave the process.
type credentials struct{ password string }

func newCredentials() credentials { return credentials{password: rand.Text()} }

// accountsConfig is the accounts block of the server's configuration.
func accountsConfig(c credentials, o *Outside) string {
	var s strings.Builder
	inside := func(user string) string {
		return fmt.Sprintf("{user: %q, password: %q, allowed_connection_types: [IN_PROCESS]}", user, c.password)
	}
	fmt.Fprintf(&s, "system_account: %s\naccounts {\n  %s { users: [ %s ] }\n", accountSystem, accountSystem, inside("system"))
	if o == nil {
		fmt.Fprintf(&s, "  %s { jetstream: enabled, users: [ %s ] }\n}\n", accountPulse, inside(userPulse))
		return s.String()
	}
	fmt.Fprintf(&s, `
  %[1]s {
    jetstream: enabled
    users: [ %[4]s ]
    exports: [ {stream: %[9]q, accounts: [%[3]s]} ]
  }
  %[2]s {
    users: [ %[5]s ]
    exports: [ {stream: %[10]q, accounts: [%[3]s]} ]
  }
  %[20]s {
    users: [ %[21]s ]
    exports: [ {stream: %[7]q, accounts: [%[3]s]}, {stream: %[8]q, accounts: [%[3]s]} ]
  }
  %[3]s {
    imports: [
      {stream: {account: %[1]s, subject: %[9]q}, to: %[11]q}
      {stream: {account: %[20]s, subject: %[7]q}}, {stream: {account: %[20]s, subject: %[8]q}}
      {stream: {account: %[2]s, subject: %[10]q}}
    ]
    mappings: { %[12]q: %[13]q }
    limits: { max_connections: %[14]d, max_subscriptions: %[15]d, max_payload: %[16]d }
    users: [
      %[6]s
      { user: %[17]q, password: %[18]q, allowed_connection_types: [STANDARD]
        permissions: {publish: {allow: [%[19]s]}, subscribe: {allow: ["pulse.>", %[11]q]}} }
    ]
  }
}
`, accountPulse, accountLive, accountOutside, inside(userPulse), inside(userLive), inside(userGate), // 1 to 6
		codec.ReadingsSubject+">", codec.RelaysSubject+">", answers+">", subjectLive+">", inboxes+">", // 7 to 11
		api+">", requests+">", // 12, 13
		o.MaxConnections+1, max(o.MaxSubscriptions, len(routes)), outsidePayload, // 14 to 16; one connection is the gate's
		outsideUser, c.password, quoted(allowed()), // 17 to 19
		accountCopies, inside(userCopies))
	return s.String()
}

// outsideUser stands in the configuration for Outside.User: what people choose is not put into its syntax.
const outsideUser = "outside"

// allowed are the subjects to which a client may publish, as they are behind the mapping: there they are checked.
func allowed() []string {
	list := make([]string, 0, len(routes))
	for _, r := range routes {
		list = append(list, r.subject)
	}
	return list
}

func quoted(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = strconv.Quote(s)
	}
	return strings.Join(q, ", ")
}
