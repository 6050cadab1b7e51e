package outside

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal"
)

// rawClient speaks the protocol directly.
type rawClient struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func dialRaw(t testing.TB, j *opened) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", j.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := &rawClient{Conn: conn, t: t, in: bufio.NewReader(conn)}
	r.expect("INFO")
	if _, err := fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"pulse\",\"pass\":%q}\r\nPING\r\n", outsidePassword); err != nil {
		t.Fatal(err)
	}
	r.expect("PONG")
	return r
}

// expect reads lines until one contains what.
func (r *rawClient) expect(what string) {
	r.t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	for {
		line, err := r.in.ReadString('\n')
		if strings.Contains(line, what) {
			return
		}
		if err != nil {
			r.t.Fatalf("%q did not come: %v", what, err)
		}
	}
}

// closed waits for the end of the connection.
func (r *rawClient) closed() {
	r.t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r.in); errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatal("the connection is still there")
	}
}

// appendMany appends n events of a second relay concurrently.
func appendMany(tb testing.TB, j *opened, n int) {
	tb.Helper()
	var group errgroup.Group
	group.SetLimit(256)
	for i := range n {
		group.Go(func() error {
			_, err := j.Append(tb.Context(), sample("web2", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		tb.Fatal(err)
	}
}

func TestOutsidePassword(t *testing.T) {
	var log logtest.Buffer
	j := openOutside(t, t.TempDir(), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, options := range [][]nats.Option{
		{nats.UserInfo("pulse", "wrong")}, {nats.UserInfo("pulse", "")}, {nats.UserInfo("", "")}, {nats.UserInfo("other", outsidePassword)},
		{nats.UserInfo("outside", outsidePassword)}, {nats.UserInfo("journal", j.current().Password)}, {nats.UserInfo("system", j.current().Password)},
		{nats.UserInfo("gate", j.current().Password)}, {nats.UserInfo("live", j.current().Password)},
		{nats.UserInfo("outside", j.current().Password)}, {nats.Token(outsidePassword)}, nil,
	} {
		if nc, err := nats.Connect("nats://"+j.Addr().String(), options...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("the answer is %v", err)
			if nc != nil {
				nc.Close()
			}
		}
	}
	eventually(t, "they are counted", func() bool { return value(t, j.m.refused.WithLabelValues("password")) >= 10 })
	if n := strings.Count(log.String(), "an outside client was refused"); n != 1 {
		t.Errorf("%d of them were logged", n)
	}
}

// Every accepted password works for clients; a password that no client could send is refused.
func TestOutsidePasswordsThatClientsCanGive(t *testing.T) {
	for _, password := range []string{strings.Repeat("x", maxPassword-2), strings.Repeat("<", maxPassword/6-1), strings.Repeat("ü", maxPassword/2-1), "$2a$", "$2b$1$x", "a\tb"} {
		if err := CheckPassword(password); err != nil {
			t.Fatalf("%.20q: %v", password, err)
		}
		j := openOutside(t, t.TempDir(), Options{Password: password})
		nc, err := tryClient(j, nats.UserInfo("pulse", password))
		if err != nil {
			t.Errorf("%.20q, of %d bytes: %v", password, len(password), err)
			continue
		}
		nc.Close()
	}
	for _, password := range []string{"$2a$10$abc", strings.Repeat("x", maxPassword-1), "caf\xe9"} {
		if err := CheckPassword(password); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%.20q: %v", password, err)
		}
	}
}

func TestOutsideTooManyConnections(t *testing.T) {
	reg := prometheus.NewRegistry()
	j := openOutside(t, t.TempDir(), Options{Registerer: reg, MaxConnections: 2})
	client(t, j)
	second := client(t, j)
	if j.connections() != 2 {
		t.Errorf("%v connections are counted", j.connections())
	}
	_, err := tryClient(j)
	if err == nil || !strings.Contains(err.Error(), "maximum account active connections exceeded") {
		t.Errorf("the third is told %v", err)
	}
	families, err := reg.Gather()
	if err != nil || !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool {
		return f.GetName() == "pulse_journal_outside_connections" && f.GetMetric()[0].GetGauge().GetValue() == 2
	}) {
		t.Errorf("the gauge: %v", err)
	}
	second.Close()
	eventually(t, "the third may come in now", func() bool {
		nc, err := tryClient(j)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	if value(t, j.m.refused.WithLabelValues("connections")) == 0 {
		t.Error("it was not counted")
	}
	readN(t, from1(t, j, appendN(t, j, "web1", 0, 1)), 1)
}

func TestOutsideTooManySubscriptions(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{MaxSubscriptions: 20})
	got := make(chan error, 100)
	nc := client(t, j, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { got <- err }))
	for i := range 30 {
		if _, err := nc.SubscribeSync(fmt.Sprintf("pulse.live.web%d.>", i)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-got:
		if !strings.Contains(err.Error(), "maximum subscriptions exceeded") {
			t.Errorf("it is told %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it is told nothing")
	}
}

// Outside clients cannot keep Pulse from reading, however many consumers they make. Idle ephemeral
// consumers are removed for new ones.
func TestOutsideTooManyConsumers(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{MaxConsumers: 10})
	appendN(t, j, "web1", 0, 10)
	s := stream(t, client(t, j))
	for i := range 4 {
		if _, err := s.CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: fmt.Sprint("durable", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		if _, err := s.CreateConsumer(patient(t), jetstream.ConsumerConfig{InactiveThreshold: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(mustConsumers(t, j)); n != 10 || j.consumers() != 10 {
		t.Errorf("%d consumers are there, %v are counted", n, j.consumers())
	}
	for i := range 6 {
		if _, err := s.CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: fmt.Sprint("more", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, cfg := range []jetstream.ConsumerConfig{{Durable: "one too many"}, {}} {
		cfg.Durable = strings.ReplaceAll(cfg.Durable, " ", "-")
		if _, err := s.CreateConsumer(patient(t), cfg); err == nil || !strings.Contains(err.Error(), "maximum consumers limit reached") {
			t.Errorf("one more is answered with %v", err)
		}
	}
	if _, err := s.UpdateConsumer(patient(t), jetstream.ConsumerConfig{Durable: "more1", Description: "mine"}); err != nil {
		t.Errorf("an update of one that is there: %v", err)
	}
	for range 20 {
		readN(t, from1(t, j, 1), 10)
	}
}

func TestOutsideDelete(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	s := stream(t, client(t, j))
	for _, cfg := range []jetstream.ConsumerConfig{{Durable: "stays"}, {Name: "goes", InactiveThreshold: time.Minute}} {
		if _, err := s.CreateConsumer(patient(t), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteConsumer(t.Context(), "goes"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteConsumer(t.Context(), "stays"); err == nil || !strings.Contains(err.Error(), "168h0m0s") || !strings.Contains(err.Error(), "pulse consumers delete stays") {
		t.Errorf("deleting a durable one: %v", err)
	}
	list := mustConsumers(t, j)
	if len(list) != 1 || list[0].Config.InactiveThreshold != journal.DefaultRetention {
		t.Errorf("%d are left", len(list))
	}
}

func TestOutsideTLS(t *testing.T) {
	cert := selfSigned(t)
	j := openOutside(t, t.TempDir(), Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	appendN(t, j, "web1", 0, 3)
	nc := client(t, j, nats.Secure(&tls.Config{InsecureSkipVerify: true}))
	if n := stream(t, nc).CachedInfo().State.Msgs; n != 3 {
		t.Errorf("%d messages", n)
	}
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("tcp", j.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw := &rawClient{Conn: conn, t: t, in: bufio.NewReader(conn)}
	raw.expect(`"tls_required":true`)
	if _, err := fmt.Fprintf(conn, "CONNECT {\"user\":\"pulse\",\"pass\":%q}\r\nPING\r\n", outsidePassword); err != nil {
		t.Fatal(err)
	}
	raw.closed()
	readN(t, from1(t, j, 1), 3)
}

// A client that asks for much and reads nothing is disconnected. Appending and reading do not wait
// for it.
func TestOutsideSlowClient(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	large := sample("web1", 0)
	large.Collectors[0].Tags = []string{strings.Repeat("x", 1000<<10)}
	const n = 24
	for range n {
		if _, err := j.Append(t.Context(), large); err != nil {
			t.Fatal(err)
		}
	}
	nc := client(t, j)
	if _, err := stream(t, nc).CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: "slow"}); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	raw := dialRaw(t, j)
	if err := raw.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(raw, "SUB _INBOX.x 1\r\nPUB $JS.API.CONSUMER.MSG.NEXT.PULSE.slow _INBOX.x 3\r\n100\r\n"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "it is cut off, and counted", func() bool {
		appendN(t, j, "web1", 0, 1)
		return value(t, j.m.slow) > 0 && j.connections() == 0
	})
	if took := time.Since(began); took > 3*writeDeadline {
		t.Errorf("it took %v", took)
	}
	readN(t, from1(t, j, 1), n)
}

// selfSigned returns a self-signed certificate.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
