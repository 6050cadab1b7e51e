package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
)

// greet writes where the server listens, and commands to try.
func (a *App) greet(w io.Writer) {
	scheme, flags := "http", ""
	if !a.config.Insecure {
		scheme = "https"
		if a.config.TLSCert == "" {
			flags = " --cacert " + filepath.Join(a.config.DataDir, "tls", "cert.pem")
		}
	}
	token := a.config.Token
	if token != defaultToken {
		token = "$TOKEN"
	}
	nats := "off"
	if address := a.clients.Addr(); address != nil {
		nats = fmt.Sprintf("nats://%s (user pulse, password the token; docs/SUBSCRIBE.md)", address)
	}
	base := fmt.Sprintf("%s://%s", scheme, fromHere(a.query.Addr()))
	fmt.Fprintf(w, "pulse %s\n\n  relays   %s\n  api      %s\n  nats     %s\n  data     %s\n  influxdb %s\n\n", version(),
		a.ingest.Addr(), base, nats, a.config.DataDir, maskPassword(a.config.InfluxAddress))
	for _, path := range []string{"/latest/cpu_used", "/hourly/cpu_used", "/relays", "/status"} {
		fmt.Fprintf(w, "  curl%s -H \"X-AUTH-TOKEN: %s\" %s%s\n", flags, token, base, path)
	}
	fmt.Fprintln(w)
}

// fromHere returns a listening address in a form that clients on this host can use. An address that
// stands for all addresses becomes localhost, because a certificate has no name for it.
func fromHere(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return address.String()
}
