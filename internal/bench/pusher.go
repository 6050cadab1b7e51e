package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// fillLimit is how long a server may take until it has stored every series once.
const fillLimit = 10 * time.Minute

// A pusher is a relay that sends readings without being polled, at the pace of the bench. The lines
// for each batch of series are made in advance.
type pusher struct {
	conn    net.Conn
	answers atomic.Int64 // the ok and pong answers so far
	failed  atomic.Pointer[error]
	done    chan struct{} // closed when the reading has ended
}

// dialPusher identifies a relay and adds its collectors. adds holds n lines.
func dialPusher(ctx context.Context, addr, id string, adds []byte, n int) (*pusher, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &pusher{conn: conn, done: make(chan struct{})}
	go p.listen()
	err = p.say(ctx, relaywire.AppendID(nil, id, ""), 1)
	if err == nil {
		err = p.say(ctx, adds, n)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// listen reads until the connection ends. It answers polls with no readings.
func (p *pusher) listen() {
	defer close(p.done)
	lines := relaywire.NewReader(p.conn)
	for {
		m, err := lines.Read()
		switch {
		case err != nil:
		case m.Verb == relaywire.VerbOK, m.Verb == relaywire.VerbPong:
			p.answers.Add(1)
		case m.Verb == relaywire.VerbGet:
			_, err = p.conn.Write([]byte("got\n"))
		case m.Verb == relaywire.VerbError:
			err = fmt.Errorf("the server said %q", m.Args)
		}
		if err != nil {
			p.failed.Store(&err)
			return
		}
	}
}

// say sends lines and waits for the given number of answers.
func (p *pusher) say(ctx context.Context, lines []byte, answers int) error {
	want := p.answers.Load() + int64(answers)
	if _, err := p.conn.Write(lines); err != nil {
		return err
	}
	for p.answers.Load() < want {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return *p.failed.Load()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// push sends readings. If wait is true, push returns when the readings are in the journal.
func (p *pusher) push(ctx context.Context, got []byte, wait bool) error {
	if !wait {
		_, err := p.conn.Write(got)
		return err
	}
	// A session continues only after the journal has its event, so a pong means that the readings
	// are there.
	return p.say(ctx, append(got, "ping\n"...), 1)
}

func (p *pusher) close() {
	_ = p.conn.Close()
	<-p.done
}

// A crowd is a set of pushers. The series of a relay are divided into batches of perEvent readings,
// and each event is one batch.
type crowd struct {
	pushers  []*pusher
	events   [][]byte // the lines of the batches, the same for each relay
	perEvent int
}

// newCrowd connects the relays of series series, all of them in the collector c0.
func newCrowd(ctx context.Context, addr string, relays, series, perEvent int) (*crowd, error) {
	c := &crowd{perEvent: perEvent, pushers: make([]*pusher, relays)}
	for from := 0; from < series/relays; from += perEvent {
		var line []byte
		for i := from; i < from+perEvent; i++ {
			line = append(line, ",c0-"+relaytest.FleetStat(i)+":"+strconv.Itoa(i)...)
		}
		c.events = append(c.events, append([]byte("got "), append(line[1:], '\n')...))
	}
	group, connecting := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i := range relays {
		group.Go(func() (err error) {
			adds := relaywire.AppendAdd(nil, relaytest.FleetCollector(0), crowdTags(i))
			c.pushers[i], err = dialPusher(connecting, addr, relaytest.FleetID(i), adds, 1)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// crowdTags returns the tags of a relay's collector.
func crowdTags(relay int) []string { return []string{"service:s" + strconv.Itoa(relay/10)} }

// fill sends every series once, as fast as the journal takes them, and returns when InfluxDB has
// them. A series is created only once, so its creation is not part of the cost of a reading.
func (c *crowd) fill(ctx context.Context, s *pulseproc.Server) error {
	ctx, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	group, pushing := errgroup.WithContext(ctx)
	for _, p := range c.pushers {
		group.Go(func() error {
			for _, event := range c.events {
				if err := p.push(pushing, slices.Clone(event), true); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	readings := float64(len(c.pushers) * len(c.events) * c.perEvent)
	return s.Await(ctx, func() (bool, error) {
		time.Sleep(100 * time.Millisecond) // a query of /metrics is expensive
		written, err := s.Metric("pulse_projector_points_written_total", `projection="influx_raw"`)
		return written >= readings, err
	})
}

// steadily sends rate readings a second, of all series in turn, until ctx ends. If it is late, it
// sends the readings that are due all the same.
func (c *crowd) steadily(ctx context.Context, rate int) (sent uint64, err error) {
	const step = 10 * time.Millisecond
	began := time.Now()
	tick := time.NewTicker(step)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return sent, nil
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * float64(rate) / float64(c.perEvent)); n < due; n++ {
			event := c.events[n/len(c.pushers)%len(c.events)]
			if err := c.pushers[n%len(c.pushers)].push(ctx, event, false); err != nil {
				return sent, err
			}
			sent += uint64(c.perEvent)
		}
	}
}

// measure returns what a server uses while seriesRate readings come each second.
func (c *crowd) measure(ctx context.Context, s *pulseproc.Server, lasts time.Duration) (sent float64, used usage, err error) {
	before, err := takeUsage(s)
	if err != nil {
		return 0, used, err
	}
	pushing, stop := context.WithTimeout(ctx, lasts)
	defer stop()
	n, err := c.steadily(pushing, seriesRate)
	if err != nil {
		return 0, used, err
	}
	used, err = before.since(s)
	return float64(n), used, err
}

func (c *crowd) close() {
	var all sync.WaitGroup
	for _, p := range c.pushers {
		if p != nil {
			all.Go(p.close)
		}
	}
	all.Wait()
}
