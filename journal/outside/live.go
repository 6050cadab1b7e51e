package outside

import (
	"errors"
	"fmt"
	"time"
)

// errNobody means that no clients are let in, or the server is being restarted.
var errNobody = errors.New("journal: live: no outside clients are let in at the moment")

// errManyCopies means that so many subscribe to what is live that the server is busy with copies.
var errManyCopies = errors.New("more copies are wanted than can be made")

// publisher is the connection for live subjects, nil while nobody can be listening.
func (c *Clients) publisher() *fanout {
	if r := c.current(); r != nil {
		return r.live
	}
	return nil
}

// Wanted reports whether anybody may listen to a live subject: whether any client has a plain
// subscription. It takes some tens of nanoseconds.
func (c *Clients) Wanted() bool {
	live := c.publisher()
	return live != nil && live.wanted()
}

// WantedSubject reports whether anybody listens to the subject. It takes some hundred nanoseconds
// and does not keep the subject.
func (c *Clients) WantedSubject(subject string) bool {
	live := c.publisher()
	return live != nil && live.account.SubscriptionInterest(subject)
}

// Publish gives the payload to whoever listens to the subject: pulse.live.<relay>.<stat>, or
// pulse.<edge>.live.<relay>.<stat> of a relay of an edge. Nothing is stored, and nothing reaches the
// journal's own account. Publish keeps neither subject nor payload. It waits for the server inside
// at most, never for a client. What could not be published is counted.
func (c *Clients) Publish(subject string, payload []byte) error {
	live := c.publisher()
	err := errNobody
	switch {
	case live == nil:
	case !live.rate.AllowN(time.Now(), live.cost(subject)):
		err = errManyCopies
	default:
		err = live.conn.Publish(subject, payload)
	}
	if err == nil {
		return nil
	}
	c.m.liveDropped.Inc()
	return fmt.Errorf("journal: publishing %s: %w", subject, err)
}
