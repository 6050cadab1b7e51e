package outside

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/internal/guesses"
)

// What all outside clients together may ask for in a second. Appending shares the cores with them,
// and its latency is what suffers first. Requests beyond it wait for their turn (turns.go).
const (
	askRate, askBurst = 50, 100         // requests about streams and consumers
	getRate, getBurst = 2000, 1000      // messages by direct get
	pullRate          = 20_000          // messages asked for by pulls
	pullBurst         = maxPull         // so that the largest pull can pass
	maxPull, minPull  = 5000, 50        // that a pull may ask for, and what it counts for at least
	ackRate, ackBurst = 5000, 5000      // acknowledgements
	nakCost           = 10              // acknowledgements that a refusal (-NAK) counts for
	sentRate          = 15_000          // messages that clients send, of whatever kind
	sentBurst         = 4 * sentRate    // a consumer's backlog is acknowledged in bursts
	heardRate         = 500_000         // messages that clients are sent, of whatever kind
	heardBurst        = heardRate       // when many relays are polled at the same moment
	meterInterval     = time.Second / 4 // at which both are counted
	banTime           = time.Minute     // for which who sends or hears too much is kept out
	maxBans           = 10_000
)

// paces hold all outside clients together to these rates. The owner of a turn is a consumer, or who
// asks.
type paces struct{ ask, get, pull, ack *turns }

func newPaces() paces {
	return paces{
		ask: newTurns(askRate, askBurst), get: newTurns(getRate, getBurst),
		pull: newTurns(pullRate, pullBurst), ack: newTurns(ackRate, ackBurst),
	}
}

// serve begins to pass on what waits, until the run ends. An answer may take long: some are waited
// for at a time.
func (p *paces) serve(r *run) {
	for _, s := range []struct {
		turns *turns
		count int
	}{{p.ask, 4}, {p.get, 2}, {p.pull, 1}, {p.ack, 1}} {
		for range s.count {
			r.wg.Go(func() { s.turns.serve(r.ctx) })
		}
	}
}

// full reports whether something found no room since it was last asked.
func (p *paces) full() bool {
	full := false
	for _, t := range []*turns{p.ask, p.get, p.pull, p.ack} {
		full = t.full.Swap(false) || full
	}
	return full
}

// meter counts what outside clients send and are sent, and disconnects who overdoes it. The server
// reads and looks at every message before the filter can refuse it, which is most of what a message
// costs. And it hands each event to all subscriptions that match, one after the other, before it
// writes the next one.
type meter struct {
	r           *run
	sent, heard *rate.Limiter
	count       map[uint64]traffic // of each connection, by its id in the server
	slow        int64              // connections that the server ended because they were slow, and that were counted
}

// traffic is messages of a connection.
type traffic struct{ sent, heard int64 }

func newMeter(r *run) *meter {
	return &meter{r: r, sent: rate.NewLimiter(sentRate, sentBurst), heard: rate.NewLimiter(heardRate, heardBurst)}
}

// watch counts until the run ends.
func (m *meter) watch() {
	tick := time.NewTicker(meterInterval)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			m.measure(now)
			m.countSlow()
		case <-m.r.ctx.Done():
			return
		}
	}
}

// measure takes a look at all connections.
func (m *meter) measure(now time.Time) {
	conns, err := m.r.Server.Connz(&server.ConnzOptions{Limit: m.r.c.o.MaxConnections + 100, Account: accountClients})
	if err != nil {
		return // it is being stopped
	}
	count := make(map[uint64]traffic, len(conns.Conns))
	passed := make(map[*server.ConnInfo]traffic, len(conns.Conns)) // since the last look
	var all traffic
	for _, c := range conns.Conns {
		if c.Port == 0 {
			continue // the filter's own
		}
		n := traffic{sent: c.InMsgs, heard: c.OutMsgs}
		old := m.count[c.Cid]
		count[c.Cid] = n
		passed[c] = traffic{sent: n.sent - old.sent, heard: n.heard - old.heard}
		all.sent += n.sent - old.sent
		all.heard += n.heard - old.heard
	}
	m.count = count
	sends := func(t traffic) int64 { return t.sent }
	if over := !m.sent.AllowN(now, int(all.sent)); m.r.filter.paces.full() || over {
		m.end(now, passed, "sent", sends)
	}
	if !m.heard.AllowN(now, int(all.heard)) {
		m.end(now, passed, "was sent", func(t traffic) int64 { return t.heard })
	}
}

// end disconnects who had most of what passed and all who had half as much or more, and keeps them
// out for a while. They go at the same time: of many with an equal share half would be left, and
// half of these the next time.
func (m *meter) end(now time.Time, passed map[*server.ConnInfo]traffic, verb string, of func(traffic) int64) {
	var most int64
	for _, t := range passed {
		most = max(most, of(t))
	}
	for c, t := range passed {
		n := of(t)
		from, err := netip.ParseAddr(c.IP)
		if n < most/2 || n == 0 || err != nil {
			continue
		}
		m.r.c.admission.banned.add(guesses.Origin(netip.AddrPortFrom(from, uint16(c.Port)).String()), now)
		m.r.c.refused("flood", fmt.Sprintf("%s - cid:%d %s %d messages in %v, and is kept out for %v",
			c.IP, c.Cid, verb, n, meterInterval, banTime))
		_ = m.r.Server.DisconnectClientByID(c.Cid) // it went by itself
	}
}

// countSlow counts the connections that the server ended because they did not take what they had
// asked for.
func (m *meter) countSlow() {
	if n := m.r.Server.NumSlowConsumers(); n > m.slow {
		m.r.c.m.slow.Add(float64(n - m.slow))
		m.slow = n
	}
}
