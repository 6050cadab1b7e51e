package outside

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Accounts of the server. The journal lives in an account of its own, whose only user may connect
// from inside the process: a permission list in a shared account is not enough, because an API
// request with a reply subject of pulse.readings.x would be stored as an event. Clients get a
// second account, into which nothing but streams of messages is imported. What they ask for goes
// through the filter. What is published live comes from a third account, so that nothing in the
// journal's account can be made to look like it, and copies of what was committed come from a
// fourth.
const (
	accountLive    = "LIVE"
	accountCopies  = "COPIES"
	accountClients = "OUTSIDE"

	userLive   = "live"
	userCopies = "copies"
	userFilter = "gate"
	// clientUser stands in the configuration for Options.User: what people choose is not put into
	// its syntax.
	clientUser = "outside"
	// readerUser is the same for a client that gave Options.ReadPassword.
	readerUser = "reader"

	subjectLive = "pulse.live."
	// inboxes is where clients wait for answers. answers is the same place as the journal's account
	// sees it.
	inboxes = "_INBOX."
	answers = "outside."
	// requests is where the requests of clients arrive. The API of the server answers in every
	// account, so theirs are mapped to subjects beside it.
	requests = "gate.api."
	api      = "$JS.API."
	acks     = "$JS.ACK."
)

const (
	// maxPayload bounds what a client may send at once: acknowledgements and requests, never data.
	maxPayload = 32 << 10
	// writeDeadline is how long a client may take nothing at all. The server ends a connection for
	// which too much waits only when the write that is under way returns. Until then a consumer
	// sends to it, in vain, as fast as it can read.
	writeDeadline = 3 * time.Second
)

// Configure implements [journal.Outside]. The server does not listen before Open.
func (c *Clients) Configure(opts *server.Options, password string) (exports, accounts string) {
	if c.o.Address == "" {
		return "", ""
	}
	c.mu.Lock()
	host, port, _ := net.SplitHostPort(c.address) // withDefaults has checked it
	c.mu.Unlock()
	opts.Host = host
	if host == "" {
		opts.Host = "0.0.0.0"
		if l, err := net.Listen("tcp", "[::]:0"); err == nil {
			opts.Host = "::" // both families
			_ = l.Close()    // nobody connected
		}
	}
	if opts.Port, _ = strconv.Atoi(port); opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.Cluster.NoAdvertise = true
	opts.AuthTimeout, opts.TLSTimeout = 5, 5
	opts.WriteDeadline = writeDeadline
	if c.o.TLS != nil {
		opts.TLSConfig = c.o.TLS.Clone()
	}
	return fmt.Sprintf("exports: [ {stream: %q, accounts: [%s]} ]", answers+">", accountClients), c.accounts(password)
}

// accounts are the accounts beside the journal's, in the syntax of the server's configuration.
func (c *Clients) accounts(password string) string {
	inside := func(user string) string {
		return fmt.Sprintf("{user: %q, password: %q, allowed_connection_types: [IN_PROCESS]}", user, password)
	}
	readings, relays, live := codec.ReadingsSubject+">", codec.RelaysSubject+">", subjectLive+">"
	var s strings.Builder
	fmt.Fprintf(&s, `
  %s {
    users: [ %s ]
    exports: [ {stream: %q, accounts: [%s]} ]
  }`, accountLive, inside(userLive), live, accountClients)
	fmt.Fprintf(&s, `
  %[1]s {
    users: [ %[2]s ]
    exports: [ {stream: %[4]q, accounts: [%[3]s]}, {stream: %[5]q, accounts: [%[3]s]} ]
  }`, accountCopies, inside(userCopies), accountClients, readings, relays)
	fmt.Fprintf(&s, `
  %s {
    imports: [
      {stream: {account: %s, subject: %q}, to: %q}
      {stream: {account: %[5]s, subject: %[6]q}}, {stream: {account: %[5]s, subject: %[7]q}}
      {stream: {account: %[8]s, subject: %[9]q}}
    ]
    mappings: { %[10]q: %[11]q }`, accountClients, journal.Account, answers+">", inboxes+">",
		accountCopies, readings, relays, accountLive, live, api+">", requests+">")
	connections := c.o.MaxConnections + 1 // one is the filter's
	fmt.Fprintf(&s, `
    limits: { max_connections: %d, max_subscriptions: %d, max_payload: %d }
    users: [
      %s
      %s
      %s
    ]
  }
`, connections, max(c.o.MaxSubscriptions, len(routes)), maxPayload,
		inside(userFilter), outsideUser(clientUser, password, false), outsideUser(readerUser, password, true))
	return s.String()
}

// outsideUser is a user in the syntax of the server's configuration that may publish to the subjects of
// the routes, or of those that only read. The server checks after the mapping.
func outsideUser(user, password string, reads bool) string {
	var allowed []string
	for _, r := range routes {
		if r.reads || !reads {
			allowed = append(allowed, strconv.Quote(r.subject))
		}
	}
	return fmt.Sprintf(`{ user: %q, password: %q, allowed_connection_types: [STANDARD]
        permissions: {publish: {allow: [%s]}, subscribe: {allow: ["pulse.>", %q]}} }`, user, password, strings.Join(allowed, ", "), inboxes+">")
}
