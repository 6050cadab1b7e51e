package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// maxHosts is how many hosts have an address.
const maxHosts = 250 << 16

// targetIP returns the address of a host, from 127.1.0.0 on. Hosts have addresses of their own, so
// that the server keeps a connection to each, as it does with real hosts. All of them are the
// loopback device, and one listener serves them.
func targetIP(host int) string {
	return net.IPv4(127, byte(1+host>>16), byte(host>>8), byte(host)).String()
}

// targetHost is the inverse of targetIP.
func targetHost(ip net.IP) int {
	ip = ip.To4()
	return (int(ip[1])-1)<<16 | int(ip[2])<<8 | int(ip[3])
}

// targets serves /metrics for each host, in the text format without comments.
func (f *fleet) targets(ctx context.Context, hosts []host, ready func()) error {
	_, port, err := net.SplitHostPort(f.Address)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{Control: onLoopback}).Listen(ctx, "tcp4", ":"+port)
	if err != nil {
		return err
	}
	locks := make([]sync.Mutex, len(hosts))
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if !ok || r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		i := targetHost(local.IP)
		if i < 0 || i >= len(hosts) {
			http.NotFound(w, r)
			return
		}
		// A scrape that the server has given up may still be running.
		locks[i].Lock()
		defer locks[i].Unlock()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(exposition(nil, hosts[i], i)) // the server counts what it gets
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ready()
	select {
	case <-ctx.Done():
		err = server.Close()
		<-served
		return err
	case err := <-served:
		return errors.Join(err, server.Close())
	}
}

// exposition appends the next reading of each stat of a host, in the format that Prometheus scrapes.
// The host's name is not in it: the server adds it as the label instance.
func exposition(dst []byte, h host, i int) []byte {
	for stat := range h {
		dst = append(dst, relaytest.FleetStat(stat)+`{service="`+service(i)+`"} `...)
		dst = strconv.AppendFloat(dst, h[stat].next(), 'g', -1, 64)
		dst = append(dst, '\n')
	}
	return dst
}
