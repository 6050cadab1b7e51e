package ingest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// tcpServer runs a server on a port of its own.
func tcpServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	db, err := bolt.Open(tb.TempDir()+"/pulse.db", 0o600, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if o.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatal(err)
	}
	o.DB = db
	srv, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	srv.Start()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			tb.Errorf("Stop: %v", err)
		}
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return srv
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(end) {
			tb.Fatalf("not within two minutes: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestFleetLosesNothing polls 500 relays with 10 stats each over TCP every second. The journal gets
// every reading that was sent, with its value, in order.
func TestFleetLosesNothing(t *testing.T) {
	const relays, stats = 500, 10
	j := &fakeJournal{}
	srv := tcpServer(t, Options{Journal: j, PollInterval: time.Second})
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: srv.Addr().String(), N: relays, Stats: stats, Collectors: 2, Reconnect: true,
		Tags: func(relay, c int) []string { return []string{"collector:" + strconv.Itoa(c)} }})
	defer fleet.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := fleet.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three polls of each relay", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		polls := map[string]int{}
		for _, e := range j.events {
			polls[e.Relay]++
		}
		for _, n := range polls {
			if n < 3 {
				return false
			}
		}
		return len(polls) == relays
	})
	// Stop waits only a second for answers, so the fleet finishes before the stop and nothing is
	// lost between both.
	fleet.Finish()
	sent := fleet.Sent()
	if err := srv.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if got := uint64(j.readings); got != sent {
		t.Errorf("%d readings in the journal, %d were sent", got, sent)
	}
	// How many answers take longer than a second depends on the machine; none of them may be lost.
	t.Logf("%v polls were not answered within a second", counterValue(t, srv.env.m.skipped)+counterValue(t, srv.env.m.unanswered))
	times, polls := map[string]int64{}, map[string]float64{}
	for _, e := range j.events {
		if e.Time <= times[e.Relay] {
			t.Fatalf("event of %s at %d after one at %d", e.Relay, e.Time, times[e.Relay])
		}
		times[e.Relay] = e.Time
		polls[e.Relay]++
		checkFleetEvent(t, &e, polls[e.Relay])
	}
	if len(times) != relays {
		t.Errorf("events of %d relays, want %d", len(times), relays)
	}
}

// checkFleetEvent compares an event with the answer of relaytest's fleet to its n-th poll: five
// readings of each of two collectors, or of one collector if the server polled before the second
// was added.
func checkFleetEvent(t *testing.T, e *codec.Event, n float64) {
	t.Helper()
	if len(e.Collectors) == 0 || len(e.Collectors) > 2 || e.Readings() != 5*len(e.Collectors) {
		t.Fatalf("an event with %d readings of %d collectors", e.Readings(), len(e.Collectors))
	}
	last := -1
	for _, col := range e.Collectors {
		c := slices.IndexFunc([]string{relaytest.FleetCollector(0), relaytest.FleetCollector(1)}, func(name string) bool { return name == col.Name })
		if want := "collector:" + strconv.Itoa(c); c <= last || len(col.Tags) != 1 || col.Tags[0] != want {
			t.Fatalf("collector %d is %s %v, after %d", c, col.Name, col.Tags, last)
		}
		last = c
		for i, s := range col.Stats {
			stat := c + 2*i
			if s.ID != relaytest.FleetStat(stat) || s.Value != float64(stat)*1e6+n {
				t.Fatalf("%s: reading %d of %s is %v, want %s=%v", e.Relay, i, col.Name, s, relaytest.FleetStat(stat), float64(stat)*1e6+n)
			}
		}
	}
}

// TestFleetReconnects: all connections break at once, several times. Every relay reconnects and is
// polled each time.
func TestFleetReconnects(t *testing.T) {
	const relays = 200
	j := &fakeJournal{}
	srv := tcpServer(t, Options{Journal: j, PollInterval: 10 * time.Second})
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: srv.Addr().String(), N: relays, Reconnect: true})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		eventually(t, fmt.Sprintf("round %d: a poll of each", round), func() bool {
			j.mu.Lock()
			defer j.mu.Unlock()
			return len(j.events) >= relays*(round+1)
		})
		for i := range relays {
			fleet.Drop(i)
		}
		eventually(t, fmt.Sprintf("round %d: all back", round), func() bool { return fleet.Connects() >= uint64(relays*(round+2)) })
	}
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	j := &fakeJournal{}
	srv := tcpServer(t, Options{Journal: j, Token: "s3cret", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	c := relaytest.DialTLS(t, srv.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "pulse"})
	c.Identify("web1", "s3cret")
	c.Add("a")
	c.Poll("a-x:1")
	eventually(t, "the reading", func() bool { return counterValue(t, srv.env.m.readings) == 1 })
	again := relaytest.DialTLS(t, srv.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "pulse"})
	again.Identify("web1", "s3cret")
	if before := c.ExpectClosed(); len(before) != 1 || before[0] != "error replaced: another connection came with the same id" {
		t.Errorf("the older connection was told %q", before)
	}
	// A client that does not speak TLS.
	plain := relaytest.Dial(t, srv.Addr().String())
	plain.Send("id web2 s3cret")
	plain.ExpectClosed()
	eventually(t, "the refusal", func() bool { return counterValue(t, srv.env.m.refused.WithLabelValues(refusedTLS)) == 1 })
	again.Send("close")
	again.ExpectClosed()
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"pulse"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestErrorLineOverTCP: over a real socket the error line arrives even if the relay's input is
// still unread.
func TestErrorLineOverTCP(t *testing.T) {
	srv := tcpServer(t, Options{Journal: &fakeJournal{}})
	for range 20 {
		c := relaytest.Connect(t, srv.Addr().String(), "web1")
		c.Flood(100 << 10)
		if got := c.ExpectClosed(); len(got) != 1 || !strings.HasPrefix(got[0], "error line longer than 64 KiB") {
			t.Fatalf("the relay was told %q", got)
		}
	}
}

// fleetEnv makes this test binary run the relays for another test process: "address number".
const fleetEnv = "PULSE_INGEST_TEST_FLEET"

// playFleet connects the relays, prints "connected", and keeps the relays until its input ends.
func playFleet(arg string) {
	var addr string
	var n int
	if _, err := fmt.Sscan(arg, &addr, &n); err != nil {
		panic(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr, N: n, Stats: 10, Collectors: 10})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := fleet.Start(ctx); err != nil {
		panic(err)
	}
	fmt.Println("connected")
	bufio.NewReader(os.Stdin).ReadByte()
	fleet.Stop()
}

// otherProcess makes another process connect n relays to srv and returns how long that took. The
// relays disconnect when the test ends.
func otherProcess(tb testing.TB, srv *Server, n int) time.Duration {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fleetEnv+"="+fmt.Sprint(srv.Addr().String(), " ", n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { in.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		tb.Fatalf("the other process said %q: %v", line, err)
	}
	return time.Since(start)
}

// idleBytes connects n relays with ten collectors each and waits until each was polled once. It
// returns the memory that one relay uses then, and how long connecting took.
func idleBytes(tb testing.TB, n int) (rss, heap float64, took time.Duration) {
	srv := tcpServer(tb, Options{Journal: discard{}, PollInterval: time.Hour})
	settleMemory()
	rss0, heap0 := memory()
	took = otherProcess(tb, srv, n)
	eventually(tb, "one answer of each relay", func() bool { return int(counterValue(tb, srv.env.m.readings)) >= 10*n })
	srv.keeper.store.flush()
	settleMemory()
	rss1, heap1 := memory()
	return (rss1 - rss0) / float64(n), (heap1 - heap0) / float64(n), took
}

func settleMemory() {
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
}

// memory returns the resident set, if the system reports it (else 0), and the heap and stacks as
// reported by Go.
func memory() (rss, heap float64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages, _ := strconv.Atoi(f[1])
			rss = float64(pages * os.Getpagesize())
		}
	}
	return rss, float64(m.HeapInuse + m.StackInuse)
}

func TestIdleRelayMemory(t *testing.T) {
	limit := 10.0 * 1024
	if raceEnabled {
		limit *= 10 // the race detector's memory
	}
	rss, heap, _ := idleBytes(t, 1000)
	if rss > limit || heap > limit {
		t.Errorf("an idle relay costs %.0f bytes of RSS and %.0f of heap and stack, want at most %.0f", rss, heap, limit)
	}
}
