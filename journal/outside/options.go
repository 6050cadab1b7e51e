package outside

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say who is let in. With an Address, User and Password are required.
type Options struct {
	// Address is host:port to listen on. Port 0 takes a free one and keeps it ([Clients.Addr]
	// returns it). With "" nobody is let in: consumers that clients left on the stream are still
	// bounded, listed and deleted.
	Address string
	// User and Password are what a client gives.
	User, Password string
	// ReadPassword is what a client gives with User that only reads: it hears what is live, and gets
	// recorded messages by number, subject or time. It has no consumers, because these keep a place
	// on the server and others could be moved. "": there is none.
	ReadPassword string
	// TLS makes clients speak TLS (nil: plain).
	TLS *tls.Config
	// MaxConnections is how many clients may be connected at a time (0: DefaultConnections). A
	// client that does not take what it asked for costs up to 16 MiB before it is disconnected.
	MaxConnections int
	// MaxConsumers is how many consumers they may have on the stream together (0:
	// DefaultConsumers). When that many exist and a client asks for one more, the ephemeral one
	// that has been idle for longest is deleted.
	MaxConsumers int
	// MaxSubscriptions is how many subscriptions each connection may have (0:
	// DefaultSubscriptions).
	MaxSubscriptions int
	// Logger gets what clients were refused, and what does not work (nil: none).
	Logger *slog.Logger
	// Registerer gets the metrics (nil: a private one). It takes those of one Clients.
	Registerer prometheus.Registerer
}

// Limits of clients, if [Options] names no others.
const (
	DefaultConnections   = 64
	DefaultConsumers     = 256
	DefaultSubscriptions = 256
)

// bcrypted is what the server takes for the hash of a password instead of the password.
var bcrypted = regexp.MustCompile(`^\$2[abxy]\$\d{2}\$`)

// maxPassword is how long a password may be as JSON: the server takes 4 KiB of a client's CONNECT,
// which holds it.
const maxPassword = 3 << 10

// CheckPassword returns why no client could give a password, such as "is longer than ...". The
// error does not hold the password.
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

func (o Options) withDefaults() (Options, error) {
	if o.MaxConnections < 0 || o.MaxConsumers < 0 || o.MaxSubscriptions < 0 {
		return o, errors.New("journal: a negative limit in Outside; give a positive one, or 0 for the default")
	}
	o.MaxConnections = cmp.Or(o.MaxConnections, DefaultConnections)
	o.MaxConsumers = cmp.Or(o.MaxConsumers, DefaultConsumers)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, DefaultSubscriptions)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Address == "" {
		return o, nil
	}
	_, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		return o, fmt.Errorf("journal: Outside.Address must be host:port: %w", err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return o, fmt.Errorf("journal: Outside.Address: %q is no port; give a number from 0 to 65535", port)
	}
	if o.User == "" || o.Password == "" {
		return o, errors.New("journal: Outside needs a User and a Password")
	}
	if err := CheckPassword(o.Password); err != nil {
		return o, fmt.Errorf("journal: Outside.Password %w; choose another", err)
	}
	return o, nil
}
