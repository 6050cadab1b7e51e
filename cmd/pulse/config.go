package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/timezone"
	"github.com/nanopack/pulse/kapa"
)

const (
	defaultToken    = "secret"
	minJournalBytes = 64e6 // a few minutes of a large node; less than this loses events between two projector batches
)

// A Config is the whole configuration of the server. It is read from flags, then PULSE_*
// environment variables, then the config file, and is validated before anything is opened.
type Config struct {
	Server, CheckConfig, Version bool

	ConfigFile   string
	DataDir      string
	HTTPAddress  string
	RelayAddress string
	NATSAddress  string // "": no NATS clients

	InfluxAddress    string // "embedded" or a URL
	KapacitorAddress string
	MistAddress      string
	MistToken        string

	Insecure        bool // the API without TLS
	RelayTLS        bool
	TLSCert, TLSKey string // files; both empty for a self-signed certificate
	Token           string
	ReadToken       string
	RelayToken      string

	EdgeName, HubAddress, HubToken string            // of an edge; "" unless this is one
	HubCA                          string            // file; "" for the system's roots
	HubListenAddress               string            // of a hub; "" unless this is one
	Edges                          map[string]string // tokens of a hub's edges, by their names

	CORSAllow string
	APICompat string

	PollInterval      time.Duration
	BeatInterval      time.Duration
	AggregateInterval time.Duration
	Retention         time.Duration // of aggregates
	RawRetention      time.Duration // of single readings in InfluxDB

	JournalRetention time.Duration
	JournalMaxBytes  int64
	JournalSync      time.Duration // 0: before every acknowledgement
	JournalSetAside  bool

	HostStats bool
	LogLevel  slog.Level

	zone timezone.Zone // of local times, from TZ

	now    func() time.Time  // the clock that tests step (nil: time.Now)
	values map[string]string // every key as it was given, for printing
	args   []string          // what ParseConfig got, to read it again
}

// configExample is a short config file, for a message about a file that is none.
const configExample = `{"server": true, "poll-interval": 60}`

// ParseConfig returns errHelp when the user asked for -h.
var errHelp = errors.New("help asked for")

// ParseConfig reads the configuration of the server. The error is one line that names the flag and
// the values that it may have.
func ParseConfig(args []string) (*Config, error) {
	all := options()
	long, err := command.LongArgs(args, flagTable(all))
	if err != nil {
		return nil, err
	}
	fs := flag.NewFlagSet("pulse", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	values := make(map[string]*command.Value, len(all))
	for _, o := range all {
		v := &command.Value{Text: o.def, Switch: o.kind == ""}
		if o.long == "edges" {
			v.Object = edgesObject
		}
		values[o.long] = v
		fs.Var(v, o.long, o.help)
	}
	switch err := fs.Parse(long); {
	case errors.Is(err, flag.ErrHelp):
		return nil, errHelp
	case err != nil:
		return nil, err
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: flags begin with a dash, sub-commands (%s) come first", fs.Arg(0), program().CommandNames())
	}
	if err := command.SetFromEnvironment(fs, "PULSE"); err != nil {
		return nil, err
	}
	if err := command.SetFromFile(fs, configExample); err != nil {
		return nil, err
	}

	c := &Config{values: make(map[string]string, len(all)), args: args}
	for _, o := range all {
		v := values[o.long]
		c.values[o.long] = v.Text
		if err := o.set(c, v.Text); err != nil {
			return nil, fmt.Errorf("--%s: %w%s", o.long, err, v.Origin())
		}
	}
	if c.zone, err = timezone.Local(); err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// validate refuses combinations that cannot work or that nobody wants.
func (c *Config) validate() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both, or neither for a self-signed certificate")
	case c.TLSCert != "" && !c.usesTLS():
		return errors.New("--tls-cert is given but nothing would use it: add --insecure=false for https, --relay-tls for relays or --hub-listen-address for edges")
	case c.TLSCert != "" && !isKeyPair(c.TLSCert, c.TLSKey):
		return fmt.Errorf("--tls-cert, --tls-key: %s and %s must be readable PEM files that belong together", c.TLSCert, c.TLSKey)
	case c.KapacitorAddress != "" && c.InfluxAddress == "embedded":
		return errors.New("--kapacitor-address: Kapacitor cannot query the embedded engine: give an --influx-address of its own, or leave it out (alerts are then evaluated by pulse)")
	case c.MistToken != "" && c.MistAddress == "":
		return errors.New("--mist-token is given without --mist-address")
	case c.HTTPAddress == c.RelayAddress && !strings.HasSuffix(c.HTTPAddress, ":0"):
		return errors.New("--http-listen-address and --server-listen-address must differ")
	case c.NATSAddress != "" && !strings.HasSuffix(c.NATSAddress, ":0") && (c.NATSAddress == c.HTTPAddress || c.NATSAddress == c.RelayAddress):
		return errors.New("--nats-listen-address must differ from --http-listen-address and --server-listen-address")
	case c.KapacitorAddress != "" && c.RawRetention < time.Duration(kapa.MaxDuration):
		return fmt.Errorf("--raw-retention: with --kapacitor-address it must be at least %s, because alerts may look back that far", duration.Text(time.Duration(kapa.MaxDuration)))
	case c.JournalRetention < 2*c.AggregateInterval:
		return fmt.Errorf("--journal-retention must be at least twice --aggregate-interval (%s), or aggregates could not be recomputed", c.AggregateInterval)
	}
	if err := c.validateTokens(); err != nil {
		return err
	}
	return c.validateEdges()
}

func isKeyPair(cert, key string) bool {
	_, err := tls.LoadX509KeyPair(cert, key)
	return err == nil
}

// masked is printed in the place of a secret.
const masked = "********"

// printTo writes the configuration as a config file, with secrets masked.
func (c *Config) printTo(w io.Writer) error {
	shown := make(map[string]any)
	for _, o := range options() {
		v := c.values[o.long]
		switch {
		case o.long == "check-config" || o.long == "version" || o.long == "config-file":
			continue
		case strings.HasSuffix(o.long, "token") && v != "":
			shown[o.long] = masked
		case o.long == "edges":
			shown[o.long] = maskEdges(c.Edges)
		case strings.HasSuffix(o.long, "-address"):
			shown[o.long] = maskPassword(v)
		case o.kind == "int":
			shown[o.long] = json.Number(v)
		case o.kind == "":
			shown[o.long], _ = strconv.ParseBool(v) // it was taken as one
		default:
			shown[o.long] = v
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(shown)
}

// maskPassword hides the password of a URL, also of one that does not parse.
func maskPassword(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	at := strings.LastIndex(rest, "@")
	if !ok || at < 0 {
		return address
	}
	user, _, _ := strings.Cut(rest[:at], ":")
	return scheme + "://" + user + ":********@" + rest[at+1:]
}
