package outside

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Bounds on what waits for its turn.
const (
	maxTurns    = 4096       // of all together
	maxTurnsOne = maxWaiting // of who asks in one name
)

// turns has all who ask for the same kind of thing wait for their turn, and shares the rate among
// them: whoever asked for least comes first, however much others have waiting. This is fair
// queueing: what waits is ordered by the amount at which its owner would have been served by then
// if all had the same share.
type turns struct {
	rate *rate.Limiter
	full atomic.Bool // something did not find room; meter's

	mu      sync.Mutex
	lines   map[string]*line
	order   order
	waiting int
	served  float64 // the share that everybody who waits has had by now
	more    chan struct{}
}

// line is what one waits for, in the order in which it came.
type line struct {
	owner string
	turns []turn
	share float64 // of its owner when the newest of them is served
	at    int     // in order
}

type turn struct {
	cost  int
	share float64 // of its owner when it is served
	take  func()
}

func newTurns(perSecond, burst int) *turns {
	limiter := rate.NewLimiter(rate.Limit(perSecond), burst)
	return &turns{rate: limiter, lines: make(map[string]*line), more: make(chan struct{}, 1)}
}

// wait has take called when it is the turn of owner, for whom it costs so much of the rate. False
// means that too many wait.
func (t *turns) wait(owner string, cost int, take func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[owner]
	switch {
	case t.waiting >= maxTurns:
		t.full.Store(true)
		return false
	case l == nil:
		l = &line{owner: owner, share: t.served, at: -1}
		t.lines[owner] = l
	case len(l.turns) >= maxTurnsOne:
		return false
	}
	l.share += float64(cost)
	l.turns = append(l.turns, turn{cost: cost, share: l.share, take: take})
	t.waiting++
	if l.at < 0 {
		heap.Push(&t.order, l)
	}
	t.signal()
	return true
}

func (t *turns) signal() {
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// next takes the turn whose owner had least, false if nobody waits.
func (t *turns) next() (turn, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		return turn{}, false
	}
	l := t.order[0]
	next := l.turns[0]
	l.turns = l.turns[1:]
	t.waiting--
	t.served = max(t.served, next.share-float64(next.cost))
	if len(l.turns) == 0 {
		heap.Pop(&t.order)
		delete(t.lines, l.owner)
	} else {
		heap.Fix(&t.order, 0)
	}
	if t.waiting > 0 {
		t.signal() // to another goroutine that serves
	}
	return next, true
}

// serve calls who is next at the rate, until ctx ends.
func (t *turns) serve(ctx context.Context) {
	for ctx.Err() == nil {
		if next, ok := t.next(); ok {
			if t.rate.WaitN(ctx, next.cost) != nil {
				return
			}
			next.take()
			continue
		}
		select {
		case <-t.more:
		case <-ctx.Done():
		}
	}
}

// order is the lines in which somebody waits, a heap.
type order []*line

func (o order) Len() int           { return len(o) }
func (o order) Less(a, b int) bool { return o[a].turns[0].share < o[b].turns[0].share }
func (o order) Swap(a, b int) {
	o[a], o[b] = o[b], o[a]
	o[a].at, o[b].at = a, b
}

func (o *order) Push(l any) {
	l.(*line).at = len(*o)
	*o = append(*o, l.(*line))
}

func (o *order) Pop() any {
	last := len(*o) - 1
	l := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	return l
}
