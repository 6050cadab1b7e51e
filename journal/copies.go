package journal

import (
	"context"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// maxCopies is how many bytes of events may wait to be copied to plain subscriptions.
const maxCopies = 8 << 20

// copies publishes what was committed to the plain subscriptions of outside clients. The server writes an event for each
// subscription before it reads on from the connection that published it. That is not the connection that appends, so
// however many subscriptions there are, no commit waits for them.
type copies struct {
	conn     *nats.Conn
	account  *server.Account // in which it publishes
	baseline int             // subscriptions that the account has by itself
	queue    chan []nats.Msg
	waiting  atomic.Int64 // bytes
	dropped  prometheus.Counter
}

func newCopies(run *embedded, dropped prometheus.Counter) (*copies, error) {
	account, err := run.srv.LookupAccount(accountCopies)
	if err != nil {
		return nil, err
	}
	conn, err := run.keep(userCopies, "copies", func() {})
	if err != nil {
		return nil, err
	}
	return &copies{conn: conn, account: account, baseline: account.TotalSubs(), queue: make(chan []nats.Msg, 1024), dropped: dropped}, nil
}

// add takes copies of a batch, as far as anybody listens. It never waits: what does not find room is dropped and counted.
func (c *copies) add(batch []*request) {
	if c.account.TotalSubs() <= c.baseline {
		return
	}
	var copied []nats.Msg
	size := 0
	for _, r := range batch {
		if c.account.SubscriptionInterest(r.subject) {
			copied = append(copied, nats.Msg{Subject: r.subject, Data: append([]byte(nil), r.data...)})
			size += len(r.subject) + len(r.data)
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

// publish publishes what add took, until ctx ends or done is closed.
func (c *copies) publish(ctx context.Context, done <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-done:
			return
		case batch := <-c.queue:
			for i := range batch {
				m := &batch[i]
				if c.conn.PublishMsg(m) != nil {
					c.dropped.Inc() // the run ends
				}
				c.waiting.Add(-int64(len(m.Subject) + len(m.Data)))
			}
		}
	}
}
