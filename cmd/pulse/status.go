package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3"
)

// runStatus prints what a running server answers to GET /status.
func runStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("pulse status", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var (
		api    = fs.String("api", "http://127.0.0.1:8080", "the server's http address, http or https")
		token  = fs.String("token", defaultToken, "the server's --token")
		caFile = fs.String("tls-ca", "", "certificate (PEM) to trust, such as the server's self-signed one")
	)
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix("PULSE")); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stdout, "Usage:\n  pulse status [flags]\n\nFlags:")
			fs.SetOutput(stdout)
			fs.PrintDefaults()
			return exitOK
		}
		fmt.Fprintln(stderr, "pulse status:", innermost(err))
		return exitUsage
	}
	tlsConfig, err := clientTLS(true, *caFile)
	if err != nil {
		fmt.Fprintln(stderr, "pulse status: --tls-ca:", err)
		return exitUsage
	}
	if err := printStatus(ctx, stdout, *api, *token, tlsConfig); err != nil {
		fmt.Fprintln(stderr, "pulse status:", err)
		return exitFailure
	}
	return exitOK
}

func printStatus(ctx context.Context, w io.Writer, api, token string, tlsConfig *tls.Config) error {
	if !strings.Contains(api, "://") {
		api = "http://" + api
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(api, "/")+"/status", nil)
	if err != nil {
		return fmt.Errorf("--api: %w", err)
	}
	request.Header.Set("X-AUTH-TOKEN", token)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("is a server running there? %w", err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		_, err = io.Copy(w, response.Body)
		return err
	case http.StatusUnauthorized:
		return errors.New("--token: the server does not take this token")
	default:
		return fmt.Errorf("the server answered %s", response.Status)
	}
}
