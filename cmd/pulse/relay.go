package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
	"github.com/peterbourgon/ff/v3"
)

// runRelay is the agent of a host: it runs until it is told to stop, and
// reconnects for as long as that takes.
func runRelay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("pulse relay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	hostname, _ := os.Hostname() // empty is refused below
	var (
		server = fs.String("server", "127.0.0.1:3000", "address of the server's relay listener")
		id     = fs.String("id", hostname, "what this relay calls itself; the tag host of its readings")
		token  = fs.String("token", "", "the server's --relay-token")
		tags   = fs.String("tags", "", "tags for every stat, such as service:web1,rack:7")
		useTLS = fs.Bool("tls", false, "connect with TLS")
		caFile = fs.String("tls-ca", "", "certificate (PEM) to trust, such as the server's self-signed one; implies --tls")
		level  = fs.String("log-level", "INFO", "level at which to log")
	)
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix("PULSE_RELAY")); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stdout, "Usage:\n  pulse relay [flags]\n\nFlags:")
			fs.SetOutput(stdout)
			fs.PrintDefaults()
			return exitOK
		}
		fmt.Fprintln(stderr, "pulse relay:", innermost(err))
		return exitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "pulse relay: unexpected argument %q\n", fs.Arg(0))
		return exitUsage
	}
	logLevel, err := logLevel(*level)
	if err != nil {
		fmt.Fprintln(stderr, "pulse relay: --log-level:", err)
		return exitUsage
	}
	tlsConfig, err := clientTLS(*useTLS, *caFile)
	if err != nil {
		fmt.Fprintln(stderr, "pulse relay: --tls-ca:", err)
		return exitUsage
	}
	r, err := newHostRelay(relay.Options{
		Address: *server, ID: *id, Token: *token, TLS: tlsConfig,
		Logger: newLogger(stderr, logLevel),
	}, splitTags(*tags))
	if err != nil {
		fmt.Fprintln(stderr, "pulse relay:", err)
		return exitUsage
	}
	<-ctx.Done()
	if err := r.Close(); err != nil {
		fmt.Fprintln(stderr, "pulse relay:", err)
		return exitFailure
	}
	return exitOK
}

// newHostRelay starts a relay that offers this host's own stats.
func newHostRelay(o relay.Options, tags []string) (*relay.Relay, error) {
	r, err := relay.New(o)
	if err != nil {
		return nil, err
	}
	for _, c := range hoststats.Collectors() {
		if err := r.AddCollector(c.Name, append(tags[:len(tags):len(tags)], c.Tags...), c.Collector); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

func splitTags(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func clientTLS(use bool, caFile string) (*tls.Config, error) {
	if caFile == "" {
		if !use {
			return nil, nil
		}
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}
