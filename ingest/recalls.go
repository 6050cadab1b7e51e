package ingest

import (
	"container/list"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxRecalls is how many relays hand records over at the same time: what they hand over goes to
	// the journal behind live answers, a few events with each commit.
	maxRecalls = 32
	// recallPatience is how long a relay may take for a batch before another one gets its turn.
	recallPatience = 10 * time.Second
)

// recalls are the relays that hand over what waited in their spools: some at a time, each a batch in
// its turn. So the newest readings of all come before the older ones of any. Its methods may be
// called from any goroutine that does not hold a relay's lock.
type recalls struct {
	mu      sync.Mutex // guards what follows
	stopped bool
	of      map[*relay]*recall
	queue   list.List // of *recall: those that wait for their turn
	active  int       // how many have it
}

// recall is where a relay stands in handing records over.
type recall struct {
	relay *relay
	conn  *conn
	turn  *list.Element // its place in the queue, nil if it does not wait there
	timer *time.Timer   // ends the relay's turn, or a pause
	has   bool          // it has its turn
}

// want ends the relay's batch, if one is under way, and asks it for another on c when its turn
// comes. It reports whether that is at once.
func (q *recalls) want(r *relay, c *conn) (now bool) {
	return q.change(r, nil, func() {
		x := &recall{relay: r, conn: c}
		x.turn = q.queue.PushBack(x)
		q.of[r] = x
	})
}

// later ends the relay's batch, and asks it for another after a pause.
func (q *recalls) later(r *relay, c *conn) {
	q.change(r, nil, func() {
		q.of[r] = &recall{relay: r, conn: c, timer: time.AfterFunc(recallAgain, func() { q.want(r, c) })}
	})
}

// leave ends what the relay has to do with recalls: on a connection or, without one, on any.
func (q *recalls) leave(r *relay, c *conn) { q.change(r, c, func() {}) }

// change takes the relay out unless it is there with another connection, does what is to be done,
// and asks those that have their turn now. It reports whether the relay is one of them.
func (q *recalls) change(r *relay, c *conn, then func()) (now bool) {
	q.mu.Lock()
	if q.stopped {
		q.mu.Unlock()
		return false
	}
	if x := q.of[r]; x != nil && (c == nil || x.conn == c) {
		q.drop(x)
	}
	if q.of == nil {
		q.of = make(map[*relay]*recall)
	}
	then()
	begun := q.begin()
	q.mu.Unlock()
	line := relaywire.AppendRecall(nil, recallRecords)
	for _, x := range begun {
		x.conn.send(line) // a connection that has ended leaves by itself
		now = now || x.relay == r
	}
	return now
}

// drop needs mu.
func (q *recalls) drop(x *recall) {
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.turn != nil {
		q.queue.Remove(x.turn)
	}
	if x.has {
		q.active--
	}
	delete(q.of, x.relay)
}

// begin gives those that wait their turn while there is room. It needs mu.
func (q *recalls) begin() (begun []*recall) {
	for q.active < maxRecalls && q.queue.Len() > 0 {
		x := q.queue.Remove(q.queue.Front()).(*recall)
		x.turn, x.has = nil, true
		x.timer = time.AfterFunc(recallPatience, func() { q.leave(x.relay, x.conn) })
		q.active++
		begun = append(begun, x)
	}
	return begun
}

// stop ends all of them, for good.
func (q *recalls) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for _, x := range q.of {
		q.drop(x)
	}
}
