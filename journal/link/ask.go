package link

import (
	"context"
	"encoding/json"
	"fmt"
)

// Ask passes a request on to an edge and returns its answer. The error is ErrNoEdge, ErrDown,
// ErrUnanswered, a *Refused of the edge, or ctx's.
func (h *Hub) Ask(ctx context.Context, name, what string, body []byte) ([]byte, error) {
	h.mu.Lock()
	e := h.edges[name]
	if e == nil {
		h.mu.Unlock()
		return nil, ErrNoEdge
	}
	s := e.session
	h.mu.Unlock()
	if s == nil {
		return nil, ErrDown
	}
	reply := make(chan answer, 1)
	s.asking.Lock()
	s.asked++
	id := s.asked
	s.asks[id] = reply
	s.asking.Unlock()
	defer func() {
		s.asking.Lock()
		defer s.asking.Unlock()
		delete(s.asks, id)
	}()
	if err := s.c.sendJSON(frameAsk, ask{id, what, json.RawMessage(body)}); err != nil {
		return nil, fmt.Errorf("%w (%s)", ErrUnanswered, why(err)) // a part of it may have gone
	}
	select {
	case a := <-reply:
		if a.Error != "" {
			return nil, &Refused{Kind: a.Kind, Text: a.Error}
		}
		return a.Body, nil
	case <-s.done:
		return nil, ErrUnanswered
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnanswered, ctx.Err())
	}
}

// answered hands an answer to whoever waits for it.
func (s *session) answered(a answer) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if reply := s.asks[a.ID]; reply != nil {
		delete(s.asks, a.ID)
		reply <- a // it has room for one
	}
}
