package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// 1,000 events a second.
	outsideRelays = 1000
	// outsideLasts is how long each figure is measured. outsideRest is the pause between the end of
	// a client and the last measurement.
	outsideLasts, outsideLastsLong = 6 * time.Second, 30 * time.Second
	outsideRest                    = 10 * time.Second
	// outsideMost is the factor by which a client may raise the median of a commit. Below
	// outsideFloor the factor means nothing, because the machine is shared.
	outsideMost  = 2.0
	outsideFloor = 5 * time.Millisecond
)

// A stage is what was measured of a server during some seconds.
type stage struct {
	p50, p99 time.Duration // of a commit
	cpu      float64       // cores
}

func (s stage) String() string {
	return fmt.Sprintf("%.2f/%.1f ms, %.0f %%", s.p50.Seconds()*1e3, s.p99.Seconds()*1e3, 100*s.cpu)
}

// runOutside starts NATS clients with the password one after another, beside a steady load. Each
// client does one of the things that it may do, as much as it can. It is a process of its own with
// the lowest priority, so that its use of the CPU does not count as the server's.
func (b *bench) runOutside(ctx context.Context) error {
	address, release, err := freeport.Claim()
	if err != nil {
		return err
	}
	defer release()
	s, err := b.server("outside", time.Second, "--nats-listen-address", address)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: outsideRelays, Stats: 1})
	defer fleet.Stop()
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	if err := s.Await(ctx, func() (bool, error) { return fleet.Polls() >= 10*outsideRelays, nil }); err != nil {
		return err
	}
	for _, h := range hostiles {
		if b.hostile != "" && !slices.Contains(strings.Split(b.hostile, ","), h.name) {
			continue
		}
		if err := b.bear(ctx, s, fleet, address, h); err != nil {
			return fmt.Errorf("%s: %w", h.name, withLog(err, s))
		}
	}
	return nil
}

// bear measures the server before, during and after the run of a client of this kind.
func (b *bench) bear(ctx context.Context, s *pulseproc.Server, fleet *relaytest.Fleet, address string, h hostile) error {
	before, err := b.stage(ctx, s)
	if err != nil {
		return err
	}
	lostBefore, err := troubles(s)
	if err != nil {
		return err
	}
	client, err := startHostile(ctx, h.name, address)
	if err != nil {
		return err
	}
	during, err := b.stage(ctx, s)
	end(client)
	if err != nil {
		return err
	}
	if err := pause(ctx, outsideRest); err != nil {
		return err
	}
	after, err := b.stage(ctx, s)
	if err != nil {
		return err
	}
	lost, err := troubles(s)
	if err != nil {
		return err
	}
	within := func(a stage) bool { return a.p50 <= max(outsideFloor, time.Duration(outsideMost*float64(before.p50))) }
	b.add("outside: "+h.what, within(during) && within(after) && lost == lostBefore && fleet.Disconnects() == 0, "2x", "%v -> %v -> %v, lost or late %.0f",
		before, during, after, lost-lostBefore)
	return nil
}

// stage measures the server for a while.
func (b *bench) stage(ctx context.Context, s *pulseproc.Server) (stage, error) {
	lasts := outsideLasts
	if b.long {
		lasts = outsideLastsLong
	}
	before, err := takeUsage(s)
	if err != nil {
		return stage{}, err
	}
	old, err := commits(s)
	if err != nil {
		return stage{}, err
	}
	if err := pause(ctx, lasts); err != nil {
		return stage{}, err
	}
	now, err := commits(s)
	if err != nil {
		return stage{}, err
	}
	used, err := before.since(s)
	if err != nil {
		return stage{}, err
	}
	return stage{p50: now.since(old).part(0.5), p99: now.since(old).part(0.99), cpu: used.cpu.Seconds() / used.took.Seconds()}, nil
}

// troubles adds up the readings that were lost and the polls that were not sent or not answered.
func troubles(s *pulseproc.Server) (sum float64, err error) {
	for _, name := range []string{"pulse_ingest_readings_lost_total", "pulse_ingest_polls_skipped_total", "pulse_ingest_polls_unanswered_total"} {
		n, err := s.Metric(name)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// A histogram is a histogram of /metrics: the number of observations up to each bound.
type histogram struct {
	bounds []float64
	counts []float64
}

// commits returns the histogram of commit durations.
func commits(s *pulseproc.Server) (h histogram, err error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+s.HTTPAddr+"/metrics", nil)
	if err != nil {
		return h, err
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return h, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return h, err
	}
	for line := range bytes.Lines(body) {
		rest, ok := strings.CutPrefix(string(line), `pulse_journal_commit_seconds_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
		le, err := strconv.ParseFloat(bound, 64) // +Inf too
		if err != nil {
			return h, err
		}
		n, err := strconv.ParseFloat(count, 64)
		if err != nil {
			return h, err
		}
		h.bounds, h.counts = append(h.bounds, le), append(h.counts, n)
	}
	if len(h.bounds) < 2 {
		return h, fmt.Errorf("/metrics has no pulse_journal_commit_seconds: %d", answer.StatusCode)
	}
	return h, nil
}

func (h histogram) since(old histogram) histogram {
	d := histogram{bounds: h.bounds, counts: make([]float64, len(h.counts))}
	for i := range h.counts {
		d.counts[i] = h.counts[i] - old.counts[i]
	}
	return d
}

// part returns the duration below which this share of the observations lies, as Prometheus
// estimates it.
func (h histogram) part(of float64) time.Duration {
	last := len(h.counts) - 1
	rank := of * h.counts[last]
	low, under := 0.0, 0.0
	for i, n := range h.counts[:last] {
		if n >= rank && n > under {
			return time.Duration((low + (h.bounds[i]-low)*(rank-under)/(n-under)) * float64(time.Second))
		}
		low, under = h.bounds[i], n
	}
	return time.Duration(low * float64(time.Second)) // or more
}

// startHostile starts the client's process and waits until the client has begun.
func startHostile(ctx context.Context, kind, address string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	client := exec.CommandContext(ctx, "nice", "-n", "19", self, hostileCommand, kind, address)
	client.Stderr = os.Stderr
	out, err := client.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := client.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		end(client)
		return nil, fmt.Errorf("the client said %q and ended", line)
	}
	return client, nil
}

func end(c *exec.Cmd) {
	_ = c.Process.Kill() // it may have ended
	_ = c.Wait()         // killed
}
