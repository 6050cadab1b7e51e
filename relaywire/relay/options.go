package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// Options say where the server is and who this relay is. Address and ID are required.
type Options struct {
	// Address is the server's relay address, host:port.
	Address string
	// ID identifies this relay; the server makes it the tag host of every reading. Two relays with
	// the same ID take the connection away from each other.
	ID string
	// Token is the server's relay token; empty if the server has none. The relay sends it only to a
	// server that asks for one, each time that the server asks.
	Token string
	// TLS makes the relay connect over TLS. An empty ServerName is filled in from Address.
	TLS *tls.Config
	// Logger gets the events that the program's owner should know: connection lost and established,
	// collectors that panic or block. Nil logs nothing.
	Logger *slog.Logger
	// CollectTimeout is how long one collection may take before the relay sends the other
	// collectors' readings without it. Default 5 s.
	CollectTimeout time.Duration
	// DialTimeout bounds connecting, the TLS handshake and the server's answer to the id together.
	// Default 10 s.
	DialTimeout time.Duration
	// Dial replaces the function that makes connections, e.g. by a proxy or, in a test, by a pipe.
	// Default net.Dialer's DialContext over tcp. The connection must have working deadlines, and
	// Dial must return when ctx ends.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Spool makes the relay keep what it collects until the server has it, and collect by itself
	// while no server polls. Nil: readings that the server did not ask for are not sent later.
	Spool *SpoolOptions
}

// SpoolOptions say where the readings wait for the server.
type SpoolOptions struct {
	// Dir is a directory of this relay alone, made if it does not exist. Empty: in memory, so that
	// the readings do not survive the program.
	Dir string
	// MaxBytes bounds the spool; the oldest readings are dropped and counted. Default 64 MiB in a
	// directory, 1 MiB in memory; at least 256 KiB.
	MaxBytes int64
}

func (o Options) validate() (Options, error) {
	switch {
	case o.Address == "":
		return o, &Error{Op: "new", Subject: "Address", Err: ErrOptions, Detail: "give the server's host:port"}
	case !relaywire.ValidID(o.ID):
		return o, &Error{Op: "new", Subject: "ID", Err: ErrName, Detail: "give 1 to 255 bytes of UTF-8 without control characters, the last word not token:..."}
	case o.Token != "" && !relaywire.ValidToken(o.Token):
		return o, &Error{Op: "new", Subject: "Token", Err: ErrName}
	case o.Spool != nil && o.Spool.MaxBytes < 0:
		return o, &Error{Op: "new", Subject: "Spool.MaxBytes", Err: ErrOptions, Detail: "give a positive number or none"}
	case o.CollectTimeout < 0 || o.DialTimeout < 0:
		return o, &Error{Op: "new", Subject: "timeouts", Err: ErrOptions, Detail: "give positive ones or none"}
	}
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil && o.Dial == nil {
		return o, &Error{Op: "new", Subject: "Address", Err: ErrOptions, Detail: err.Error()}
	}
	if o.TLS != nil && o.TLS.ServerName == "" {
		o.TLS = o.TLS.Clone()
		o.TLS.ServerName = cmp.Or(host, o.Address)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	o.CollectTimeout = cmp.Or(o.CollectTimeout, 5*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 10*time.Second)
	return o, nil
}
