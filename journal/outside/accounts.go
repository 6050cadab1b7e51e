package outside

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nanopack/pulse/journal"
)

// Accounts of the server. The journal lives in an account of its own, whose only user may connect
// from inside the process: a permission list in a shared account is not enough, because an API
// request with a reply subject of pulse.readings.x would be stored as an event. Clients get a
// second account, into which nothing but streams of messages is imported. What they ask for goes
// through the filter. Copies of what was committed and live readings are published in a third
// account, so that nothing of them can be stored as an event.
//
// The third account is imported once, as a whole: the subjects of edges and those of this Pulse's
// own relays overlap as patterns (pulse.live.live.cpu is a reading of the relay "live", and matches
// pulse.*.live.>), and a client would hear twice what two imports match.
const (
	accountHeard   = "HEARD"
	accountClients = "OUTSIDE"

	userLive   = "live"
	userCopies = "copies"
	userFilter = "gate"
	// clientUser stands in the configuration for Options.User: what people choose is not put into
	// its syntax.
	clientUser = "outside"
	// readerUser is the same for a client that gave Options.ReadPassword.
	readerUser = "reader"

	// heard are all subjects that clients may hear: see [codec.Subjects] and [Clients.Publish].
	heard = "pulse.>"
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
	var s strings.Builder
	fmt.Fprintf(&s, `
  %s {
    users: [ %s, %s ]
    exports: [ {stream: %q, accounts: [%s]} ]
  }`, accountHeard, inside(userLive), inside(userCopies), heard, accountClients)
	fmt.Fprintf(&s, `
  %s {
    imports: [ {stream: {account: %s, subject: %q}, to: %q}, {stream: {account: %s, subject: %q}} ]
    mappings: { %q: %q }`, accountClients, journal.Account, answers+">", inboxes+">", accountHeard, heard, api+">", requests+">")
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
        permissions: {publish: {allow: [%s]}, subscribe: {allow: [%q, %q]}} }`, user, password, strings.Join(allowed, ", "), heard, inboxes+">")
}
