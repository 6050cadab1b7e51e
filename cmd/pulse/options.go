package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/timezone"
	"github.com/nanopack/pulse/projector/influx"
)

// maxRawRetention is as long as --retention may be.
const maxRawRetention = 1040 * duration.Week

// An option is one key of the configuration. It is a flag, an environment variable (PULSE_ and the
// long name in capitals) and a key of the config file.
type option struct {
	long  string
	short string // one letter, or none
	kind  string // as -h prints it: "int", "string"; "" is a switch
	def   string
	help  string
	set   func(c *Config, value string) error // says what the value may be
}

// flagTable returns options as help texts show them.
func flagTable(all []option) []command.Option {
	list := make([]command.Option, len(all))
	for i, o := range all {
		list[i] = command.Option{Long: o.long, Short: o.short, Kind: o.kind, Default: o.def, Help: o.help}
	}
	return list
}

// newCommand makes a sub-command.
func newCommand(name, long, env string, stdout, stderr io.Writer) *command.Command {
	c := command.New("pulse "+name, long, env, stdout, stderr)
	c.Shorts = make(map[string]string)
	for _, o := range options() {
		c.Shorts[o.short] = o.long
	}
	c.Zone = func() (*time.Location, error) {
		zone, err := timezone.Local()
		return zone.Location, err
	}
	return c
}

// takes adds flags of the server to a command, by their long names. The command does not read them;
// serverConfig passes them to ParseConfig.
func takes(c *command.Command, names ...string) {
	for _, o := range flagTable(options()) {
		if slices.Contains(names, o.Long) {
			c.Borrow(o)
		}
	}
}

// serverConfig returns the configuration of the server, from those of its flags that a command was
// given, the environment and the config file.
func serverConfig(c *command.Command) (*Config, error) { return ParseConfig(c.Borrowed()) }

// options returns all keys of the server, in the order in which -h prints them.
func options() []option {
	return []option{
		{"aggregate-interval", "a", "int", "15", "Interval at which stats are aggregated (minutes)", func(c *Config, v string) error {
			n, err := wholeNumber(v, 1, 24*60)
			if err == nil && (24*60)%n != 0 {
				err = fmt.Errorf("must divide a day into equal windows, as 1, 5, 10, 15, 30 or 60 minutes do; %d does not", n)
			}
			c.AggregateInterval = time.Duration(n) * time.Minute
			return err
		}},
		{"api-compat", "", "string", "", `Answer as an older release did ("0.2": times in milliseconds, /daily as an array)`, func(c *Config, v string) error {
			if v != "" && v != "0.2" {
				return fmt.Errorf(`must be "0.2" or empty, not %q`, v)
			}
			c.APICompat = v
			return nil
		}},
		{"beat-interval", "b", "int", "30", "Heartbeat frequency (seconds)", func(c *Config, v string) (err error) {
			c.BeatInterval, err = seconds(v, 1, 3600)
			return err
		}},
		{"check-config", "", "", "false", "Check the configuration, print it with secrets masked, and exit", setBool(func(c *Config) *bool { return &c.CheckConfig })},
		{"config-file", "c", "string", "", "Config file location for server", setString(func(c *Config) *string { return &c.ConfigFile })},
		{"cors-allow", "C", "string", "*", "Sets the 'Access-Control-Allow-Origin' header", func(c *Config, v string) error {
			if strings.ContainsAny(v, "\r\n") {
				return fmt.Errorf("must be one origin, such as https://dash.example.org, or *")
			}
			c.CORSAllow = v
			return nil
		}},
		{"data-dir", "", "string", "pulse-data", "Where the journal and the state are kept", func(c *Config, v string) error {
			if v == "" {
				return fmt.Errorf("must name a directory")
			}
			c.DataDir = v
			return nil
		}},
		{"edge-name", "", "string", "", "Name of this Pulse at a hub, which gets its journal; with --hub-address and --hub-token", setEdgeName},
		{"edges", "", "string", "", `Edges that may connect to this hub (NAME=TOKEN,NAME=TOKEN; in a config file {"NAME": {"token": "TOKEN"}})`, setEdges},
		{"host-stats", "", "", "false", "Collect this host's own stats through a relay inside the server", setBool(func(c *Config) *bool { return &c.HostStats })},
		{"http-listen-address", "H", "string", "127.0.0.1:8080", "Http listen address", setAddress("127.0.0.1:8080", func(c *Config) *string { return &c.HTTPAddress })},
		{"hub-address", "", "string", "", "Address of the hub's --hub-listen-address, for an edge", setHubAddress},
		{"hub-ca", "", "string", "", "Certificate (PEM) to trust, such as the hub's self-signed one, for an edge; the system's when empty", setString(func(c *Config) *string { return &c.HubCA })},
		{"hub-listen-address", "", "string", "", "Address at which edges connect, with TLS; makes this Pulse their hub", func(c *Config, v string) error {
			if v == "" {
				return nil
			}
			return setAddress("0.0.0.0:7422", func(c *Config) *string { return &c.HubListenAddress })(c, v)
		}},
		{"hub-token", "", "string", "", "Token that the hub has for this edge", setHubToken},
		{"influx-address", "i", "string", "http://127.0.0.1:8086", `InfluxDB server address, or "embedded" for the engine inside pulse`, func(c *Config, v string) error {
			c.InfluxAddress = v
			if v == "embedded" {
				return nil
			}
			// The error does not repeat the address, which may hold a password.
			if u, err := influx.ParseAddress(v); err != nil || strings.HasSuffix(u.Host, ":") {
				return fmt.Errorf(`must be "embedded" or an address like http://127.0.0.1:8086 or https://user:password@influx.example.org:8086`)
			}
			return nil
		}},
		{"insecure", "I", "", "true", "Run insecure; false serves the api over https", setBool(func(c *Config) *bool { return &c.Insecure })},
		{"journal-max-bytes", "", "string", "10GB", "Size at which the journal drops its oldest events", func(c *Config, v string) (err error) {
			c.JournalMaxBytes, err = command.Size(v, minJournalBytes, "64MB")
			return err
		}},
		{"journal-retention", "", "string", "7d", "Age at which the journal drops its oldest events", func(c *Config, v string) (err error) {
			c.JournalRetention, err = age(v)
			return err
		}},
		{"journal-set-aside", "", "", "false", "Rename a journal that cannot be opened and begin a new one", setBool(func(c *Config) *bool { return &c.JournalSetAside })},
		{"journal-sync", "", "string", "always", `When an event is on disk: "always" before it is acknowledged, "interval:1s" once a second`, func(c *Config, v string) error {
			if v == "always" {
				c.JournalSync = 0
				return nil
			}
			d, err := time.ParseDuration(strings.TrimPrefix(v, "interval:"))
			if err != nil || !strings.HasPrefix(v, "interval:") || d < 10*time.Millisecond || d > time.Hour {
				return fmt.Errorf(`must be "always" or "interval:" and a duration of 10ms to 1h, such as interval:1s`)
			}
			c.JournalSync = d
			return nil
		}},
		{"kapacitor-address", "k", "string", "", "Kapacitor server address (http://127.0.0.1:9092)", func(c *Config, v string) error {
			c.KapacitorAddress = v
			if u, err := url.Parse(v); v != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(v, "?#")) {
				return fmt.Errorf("must be an address like http://127.0.0.1:9092, or empty")
			}
			return nil
		}},
		{"log-level", "l", "string", "INFO", "Level at which to log (TRACE, DEBUG, INFO, WARN, ERROR, FATAL)", func(c *Config, v string) (err error) {
			c.LogLevel, err = command.LogLevel(v)
			return err
		}},
		{"mist-address", "m", "string", "", "Mist server address", func(c *Config, v string) error {
			if v == "" {
				return nil
			}
			return setAddress("127.0.0.1:1445", func(c *Config) *string { return &c.MistAddress })(c, v)
		}},
		{"mist-token", "M", "string", "", "Mist server token", setString(func(c *Config) *string { return &c.MistToken })},
		{"nats-listen-address", "", "string", "127.0.0.1:4222", `Address at which NATS clients read the journal (user "pulse", password a token; "" for none)`, func(c *Config, v string) error {
			if v == "" {
				return nil
			}
			return setAddress("127.0.0.1:4222", func(c *Config) *string { return &c.NATSAddress })(c, v)
		}},
		{"poll-interval", "p", "int", "60", "Interval to request stats from clients (seconds)", func(c *Config, v string) (err error) {
			c.PollInterval, err = seconds(v, 1, 24*3600)
			return err
		}},
		{"raw-retention", "", "string", "8h", "Age up to which InfluxDB keeps single readings (1h or more)", func(c *Config, v string) (err error) {
			if c.RawRetention, err = age(v); err == nil && (c.RawRetention < time.Hour || c.RawRetention%time.Second != 0 || c.RawRetention > maxRawRetention) {
				err = fmt.Errorf("must be whole seconds from 1h to 20 years, such as 8h, 3d or 2w, not %q", v)
			}
			return err
		}},
		{"read-token", "", "string", "", "Token that only reads (HTTP and NATS)", func(c *Config, v string) error {
			c.ReadToken = v
			if wrong := command.TokenMistake(v); wrong != "" {
				return errors.New(wrong)
			}
			return nil
		}},
		{"relay-tls", "", "", "false", "Relays connect with TLS", setBool(func(c *Config) *bool { return &c.RelayTLS })},
		{"relay-token", "", "string", "", "Token that relays must give with their id", func(c *Config, v string) error {
			c.RelayToken = v
			return command.CheckRelayToken(v)
		}},
		{"retention", "r", "int", "1", "Number of weeks to store aggregated stats", func(c *Config, v string) error {
			n, err := wholeNumber(v, 1, 1040)
			c.Retention = time.Duration(n) * 7 * 24 * time.Hour
			return err
		}},
		{"server", "s", "", "false", "Run as server", setBool(func(c *Config) *bool { return &c.Server })},
		{"server-listen-address", "S", "string", "127.0.0.1:3000", "Server listen address", setAddress("127.0.0.1:3000", func(c *Config) *string { return &c.RelayAddress })},
		{"tls-cert", "", "string", "", "Certificate file (PEM) for https, relays and edges; self-signed when empty", setString(func(c *Config) *string { return &c.TLSCert })},
		{"tls-key", "", "string", "", "Key file (PEM) of --tls-cert", setString(func(c *Config) *string { return &c.TLSKey })},
		{"token", "t", "string", defaultToken, "Security token (recommend placing in config file)", setToken},
		{"version", "v", "", "false", "Print version info and exit", setBool(func(c *Config) *bool { return &c.Version })},
	}
}

func setString(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

func setBool(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("must be true or false, not %q", v)
		}
		*field(c) = b
		return nil
	}
}

func setAddress(example string, field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		_, port, err := net.SplitHostPort(v)
		if err == nil {
			_, err = wholeNumber(port, 0, 65535)
		}
		if err != nil {
			return fmt.Errorf("must be host:port, such as %s, not %q", example, v)
		}
		*field(c) = v
		return nil
	}
}

func wholeNumber(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return low, fmt.Errorf("must be a whole number from %d to %d, not %q", low, high, v)
	}
	return n, nil
}

func seconds(v string, low, high int) (time.Duration, error) {
	n, err := wholeNumber(v, low, high)
	return time.Duration(n) * time.Second, err
}

// age reads a duration of Go (36h, 1.5h) or one with days and weeks (7d, 2w).
func age(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		d, err = duration.Parse(v, 36500*duration.Day)
	}
	if err != nil || d < time.Minute {
		return 0, fmt.Errorf("must be a duration of a minute or more, such as 36h, 7d or 2w, not %q", v)
	}
	return d, nil
}
