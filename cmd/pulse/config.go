package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

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
	CORSAllow       string
	APICompat       string

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

// ParseConfig returns errHelp when the user asked for -h.
var errHelp = errors.New("help asked for")

// ParseConfig reads the configuration of the server. The error is one line that names the flag and
// the values that it may have.
func ParseConfig(args []string) (*Config, error) {
	all := options()
	long, err := longArgs(args, all)
	if err != nil {
		return nil, err
	}
	fs := flag.NewFlagSet("pulse", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	values := make(map[string]*rawValue, len(all))
	for _, o := range all {
		v := &rawValue{text: o.def, isBool: o.kind == ""}
		values[o.long] = v
		fs.Var(v, o.long, o.help)
	}
	switch err := fs.Parse(long); {
	case errors.Is(err, flag.ErrHelp):
		return nil, errHelp
	case err != nil:
		return nil, err
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: flags begin with a dash, sub-commands (%s) come first", fs.Arg(0), subcommandNames())
	}
	if err := setFromEnvironment(fs, "PULSE"); err != nil {
		return nil, err
	}
	if err := setFromFile(fs); err != nil {
		return nil, err
	}

	c := &Config{values: make(map[string]string, len(all)), args: args}
	for _, o := range all {
		v := values[o.long]
		c.values[o.long] = v.text
		if err := o.set(c, v.text); err != nil {
			return nil, fmt.Errorf("--%s: %w%s", o.long, err, v.origin())
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
	case c.TLSCert != "" && c.Insecure && !c.RelayTLS:
		return errors.New("--tls-cert is given but nothing would use it: add --insecure=false for https or --relay-tls for relays")
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
	return c.validateTokens()
}

func isKeyPair(cert, key string) bool {
	_, err := tls.LoadX509KeyPair(cert, key)
	return err == nil
}

// printTo writes the configuration as a config file, with secrets masked.
func (c *Config) printTo(w io.Writer) error {
	shown := make(map[string]any)
	for _, o := range options() {
		v := c.values[o.long]
		switch {
		case o.long == "check-config" || o.long == "version" || o.long == "config-file":
			continue
		case strings.HasSuffix(o.long, "token") && v != "":
			shown[o.long] = "********"
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

// A rawValue keeps the text of a flag as it was given. The options check the text later, so that
// the error is the same for flags, the environment and the config file.
type rawValue struct {
	text   string
	isBool bool
	from   string // the variable or the line that it comes from; "" for the command line and the default
}

// origin returns where the value comes from, for the end of an error.
func (v *rawValue) origin() string {
	if v.from == "" {
		return ""
	}
	return " (" + v.from + ")"
}

func (v *rawValue) String() string     { return v.text }
func (v *rawValue) Set(s string) error { v.text = s; return nil }
func (v *rawValue) IsBoolFlag() bool   { return v.isBool }

// longArgs rewrites the short forms -p 5, -p5, -p=5 and -sI to long ones, so that a key has the
// same name in every source.
func longArgs(args []string, all []option) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' || arg[1] == '-' {
			out = append(out, arg)
			name, isLong := strings.CutPrefix(arg, "--")
			if !isLong || name == "help" {
				continue
			}
			name, _, hasValue := strings.Cut(name, "=")
			o := slices.IndexFunc(all, func(o option) bool { return o.long == name })
			switch {
			case o < 0:
				return nil, fmt.Errorf("unknown flag --%s%s", name, didYouMean(name, flagNames(all), "--"))
			case all[o].kind == "" || hasValue:
			case i+1 >= len(args):
				return nil, fmt.Errorf("--%s needs a value", name)
			default:
				i++ // its value, whatever it looks like
				out = append(out, args[i])
			}
			continue
		}
		if arg == "-h" || arg == "-help" {
			return []string{"--help"}, nil
		}
		if name, _, _ := strings.Cut(arg[1:], "="); len(name) > 1 && slices.Contains(flagNames(all), name) {
			return nil, fmt.Errorf("unknown flag -%s; did you mean --%s?", name, name) // not -p with the value "oll-interval"
		}
		for rest := arg[1:]; rest != ""; {
			o := slices.IndexFunc(all, func(o option) bool { return o.short == rest[:1] })
			if o < 0 {
				return nil, fmt.Errorf("unknown flag -%s in %q: pulse -h lists the flags", rest[:1], arg)
			}
			value := strings.TrimPrefix(rest[1:], "=")
			isBool := all[o].kind == ""
			switch {
			case isBool && !strings.HasPrefix(rest[1:], "="):
				out, rest = append(out, "--"+all[o].long), rest[1:]
				continue
			case value == "" && !isBool && !strings.HasPrefix(rest[1:], "="):
				if i+1 >= len(args) {
					return nil, fmt.Errorf("--%s (-%s) needs a value", all[o].long, all[o].short)
				}
				i++
				value = args[i]
			}
			out, rest = append(out, "--"+all[o].long+"="+value), ""
		}
	}
	return out, nil
}

// Levels of Pulse 0.2 that slog does not have.
const (
	levelTrace = slog.LevelDebug - 4
	levelFatal = slog.LevelError + 4
)

func logLevel(v string) (slog.Level, error) {
	levels := map[string]slog.Level{
		"TRACE": levelTrace, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
		"WARN": slog.LevelWarn, "ERROR": slog.LevelError, "FATAL": levelFatal,
	}
	level, ok := levels[strings.ToUpper(v)]
	if !ok {
		err := fmt.Errorf("must be TRACE, DEBUG, INFO, WARN, ERROR or FATAL, not %q", v)
		if meant := meantBy(v, slices.Sorted(maps.Keys(levels))); meant != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, meant)
		}
		return 0, err
	}
	return level, nil
}
