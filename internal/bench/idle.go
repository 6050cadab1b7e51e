package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	idleRelays = 10_000
	// idleLimit is what one idle relay may cost, in bytes of RSS.
	idleLimit = 10 << 10
	// idleSettle is how long the server rests before its memory is measured.
	idleSettle = 10 * time.Second
)

// runIdle measures what a connected relay that sends nothing costs the server.
func (b *bench) runIdle(ctx context.Context) error {
	s, err := b.server("idle", time.Hour, "-b", "3600") // relays that never ping
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	without, err := settledRSS(ctx, s)
	if err != nil {
		return err
	}
	began := time.Now()
	conns, err := connectAll(ctx, s.RelayAddr, idleRelays, codec.Collector{Name: relaytest.FleetCollector(0)})
	defer closeAll(conns)
	if err != nil {
		return err
	}
	took := time.Since(began)
	with, err := settledRSS(ctx, s)
	if err != nil {
		return err
	}
	connected, err := s.Metric("pulse_ingest_relays_connected")
	if err != nil {
		return err
	}
	if connected != idleRelays {
		return fmt.Errorf("%.0f of %d relays are connected", connected, idleRelays)
	}
	each := float64(with-without) / idleRelays
	b.add(fmt.Sprintf("idle: RSS of each of %d connected relays", idleRelays), each <= idleLimit, "10 KiB", "%.1f KiB (%d MiB without, %d MiB with; connected in %.1f s)",
		each/1024, without>>20, with>>20, took.Seconds())
	return nil
}

// settledRSS returns the RSS of a server after it was idle for idleSettle.
func settledRSS(ctx context.Context, s *pulseproc.Server) (int64, error) {
	if err := pause(ctx, idleSettle); err != nil {
		return 0, err
	}
	now, _, err := s.RSS()
	return now, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// connectAll connects n relays with these collectors. After that the relays send nothing and do not
// read. The caller closes all connections that connectAll returns, even if there is an error.
func connectAll(ctx context.Context, address string, n int, collectors ...codec.Collector) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i := range conns {
		group.Go(func() (err error) {
			conns[i], err = register(ctx, address, relaytest.FleetID(i), collectors)
			return err
		})
	}
	return conns, group.Wait()
}

// register connects a relay and adds its collectors. It returns when the server knows them.
func register(ctx context.Context, address, id string, collectors []codec.Collector) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return conn, err
	}
	lines := bufio.NewReaderSize(conn, 64)
	if err := ask(conn, lines, relaywire.AppendID(nil, id, "")); err != nil {
		return conn, err
	}
	for _, c := range collectors {
		if err := ask(conn, lines, relaywire.AppendAdd(nil, c.Name, c.Tags)); err != nil {
			return conn, err
		}
	}
	return conn, conn.SetDeadline(time.Time{})
}

// ask sends a request and reads until the server's ok.
func ask(conn net.Conn, lines *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	for {
		line, err := lines.ReadString('\n')
		switch {
		case err != nil:
			return err
		case line == "ok\n":
			return nil
		case strings.HasPrefix(line, "error"):
			return fmt.Errorf("the server said %q to %q", line, request)
		}
	}
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close() // the connection is not used any more
		}
	}
}
