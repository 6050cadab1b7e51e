package journal

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/internal/guesses"
)

// What all outside clients together may ask for in a second. Appending shares the cores with them, and its latency is
// what suffers first. Requests beyond it wait in the order in which they came.
const (
	askRate, askBurst = 50, 100          // requests about streams and consumers
	getRate, getBurst = 2000, 1000       // messages by direct get
	pullRate          = 20_000           // messages asked for by pulls
	pullBurst         = maxPull          // so that the largest pull can pass
	maxPull, minPull  = 5000, 20         // that a pull may ask for, and what it counts for at least
	ackRate, ackBurst = 10_000, 5000     // acknowledgements
	nakCost           = 10               // acknowledgements that a refusal (-NAK) counts for
	sentRate          = 30_000           // messages that clients send, of whatever kind
	sentBurst         = 2 * sentRate     // a consumer's backlog is acknowledged in bursts
	meterInterval     = time.Second / 4  // at which they are counted
	banTime           = 10 * time.Second // for which who sends too much is kept out
	maxBans           = 10_000
)

// paces hold all outside clients together to these rates.
type paces struct{ ask, get, pull, ack *rate.Limiter }

func newPaces() paces {
	return paces{
		ask: rate.NewLimiter(askRate, askBurst), get: rate.NewLimiter(getRate, getBurst),
		pull: rate.NewLimiter(pullRate, pullBurst), ack: rate.NewLimiter(ackRate, ackBurst),
	}
}

// bans are the addresses from which nobody may connect for a while.
type bans struct {
	mu    sync.Mutex
	since map[netip.Prefix]time.Time
}

func newBans() *bans { return &bans{since: make(map[netip.Prefix]time.Time)} }

func (b *bans) add(from netip.Prefix, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, since := range b.since {
		if !banned(since, now) || len(b.since) >= maxBans {
			delete(b.since, p)
		}
	}
	b.since[from] = now
}

func (b *bans) holds(from netip.Prefix, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return banned(b.since[from], now)
}

// banned reports whether a ban still holds. A clock that was set back ends it.
func banned(since, now time.Time) bool {
	passed := now.Sub(since)
	return passed >= 0 && passed < banTime
}

// meter counts what outside clients send, and disconnects who floods: the server reads and looks at every message before
// the gate can refuse it, which is most of what a message costs.
type meter struct {
	d     *door
	sent  *rate.Limiter
	count map[uint64]int64 // messages of each connection, by its id in the server
}

// watch counts until the run ends.
func (m *meter) watch() {
	tick := time.NewTicker(meterInterval)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			m.measure(now)
		case <-m.d.run.gone:
			return
		case <-m.d.j.ctx.Done():
			return
		}
	}
}

// measure takes a look at all connections. When they sent too much together, the one that sent most goes.
func (m *meter) measure(now time.Time) {
	conns, err := m.d.run.srv.Connz(&server.ConnzOptions{Limit: m.d.j.o.Outside.MaxConnections + 100, Account: accountOutside})
	if err != nil {
		return // it is being stopped
	}
	count := make(map[uint64]int64, len(conns.Conns))
	var all, most int64
	var worst *server.ConnInfo
	for _, c := range conns.Conns {
		if c.Port == 0 {
			continue // the gate's own
		}
		n := c.InMsgs - m.count[c.Cid]
		count[c.Cid] = c.InMsgs
		if all += n; n > most {
			most, worst = n, c
		}
	}
	m.count = count
	if m.sent.AllowN(now, int(min(all, sentBurst))) || worst == nil {
		return
	}
	from, err := netip.ParseAddr(worst.IP)
	if err != nil {
		return
	}
	s := m.d.j.o.strangers
	s.admission.banned.add(guesses.Origin(netip.AddrPortFrom(from, uint16(worst.Port)).String()), now)
	s.complain("flood", fmt.Sprintf("%s - cid:%d sent %d messages in %v, and is kept out for %v", worst.IP, worst.Cid, most, meterInterval, banTime))
	_ = m.d.run.srv.DisconnectClientByID(worst.Cid) // it went by itself
}
