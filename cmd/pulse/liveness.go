package main

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
)

// liveness returns a function that asks the API over its own listener, as clients do, and then
// locks the registry of relays, which each session and each poll locks. Any answer proves that the
// process is alive, also a 503 of /readyz.
//
// The connection to the API is kept. Without that, an API that has as many connections or files
// open as it may would be taken for one that is stuck.
func (a *App) liveness() func(context.Context) error {
	scheme := "http://"
	transport := &http.Transport{MaxResponseHeaderBytes: maxHeaders}
	if !a.config.Insecure {
		scheme = "https://"
		// It is this process at the other end: there is nobody to mistake it for.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	client := &http.Client{Transport: transport}
	address := scheme + a.query.Addr().String() + "/readyz"
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil { // to its end, for the next one
			return err
		}
		a.ingest.Relays()
		return nil
	}
}
