package outside

import (
	"context"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/journal"
)

// maxCopies is how many bytes of events may wait to be copied to plain subscriptions.
const maxCopies = 8 << 20

// fanout is a connection that publishes to the subscriptions of outside clients. The server writes a message for each subscription before it reads the next one from the
// connection.
type fanout struct {
	conn     *nats.Conn
	account  *server.Account
	baseline int // subscriptions that the account has by itself
	// rate is of the messages that are made of those published. It is above what clients may be
	// sent, at which meter disconnects them: thousands of subscriptions would keep the server busy
	// for seconds before meter sees them.
	rate *rate.Limiter
}

func newFanout(r *run, user string) (*fanout, error) {
	a, err := r.Server.LookupAccount(accountHeard)
	if err != nil {
		return nil, err
	}
	conn, err := r.dial(user, user, func() {})
	if err != nil {
		return nil, err
	}
	return &fanout{conn: conn, account: a, baseline: a.TotalSubs(), rate: rate.NewLimiter(2*heardRate, heardBurst)}, nil
}

// wanted reports whether anybody has a subscription, to whatever.
func (f *fanout) wanted() bool { return f.account.TotalSubs() > f.baseline }

// cost is how many messages are made of one with this subject: subscriptions to other subjects cost
// nothing.
func (f *fanout) cost(subject string) int { return min(f.account.Interest(subject), heardBurst) }

// copies publishes what was committed to the plain subscriptions of outside clients. It has a
// connection other than the one that appends, so however many subscriptions there are, no commit
// waits for them.
type copies struct {
	*fanout
	queue   chan []nats.Msg
	waiting atomic.Int64 // bytes
	dropped prometheus.Counter
}

func newCopies(r *run) (*copies, error) {
	f, err := newFanout(r, userCopies)
	if err != nil {
		return nil, err
	}
	return &copies{fanout: f, queue: make(chan []nats.Msg, 1024), dropped: r.c.m.copiesDropped}, nil
}

// add takes copies of a batch, as far as anybody listens. It never waits: what does not find room
// is dropped and counted.
func (c *copies) add(batch []journal.Message) {
	if !c.wanted() {
		return
	}
	var copied []nats.Msg
	size := 0
	for _, m := range batch {
		if c.account.SubscriptionInterest(m.Subject) {
			copied = append(copied, nats.Msg{Subject: m.Subject, Data: append([]byte(nil), m.Data...)})
			size += len(m.Subject) + len(m.Data)
		}
	}
	if len(copied) == 0 {
		return
	}
	if c.waiting.Add(int64(size)) <= maxCopies {
		select {
		case c.queue <- copied:
			return
		default:
		}
	}
	c.waiting.Add(-int64(size))
	c.dropped.Add(float64(len(copied)))
}

// publish publishes what add took, until ctx ends.
func (c *copies) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case batch := <-c.queue:
			for i := range batch {
				m := &batch[i]
				if c.rate.WaitN(ctx, c.cost(m.Subject)) != nil || c.conn.PublishMsg(m) != nil {
					c.dropped.Inc() // the run ends
				}
				c.waiting.Add(-int64(len(m.Subject) + len(m.Data)))
			}
		}
	}
}
