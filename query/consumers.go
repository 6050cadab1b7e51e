package query

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Consumers are the places that programs outside, NATS clients, keep in the journal.
type Consumers interface {
	// Consumers lists them by name. Both methods return when ctx ends.
	Consumers(ctx context.Context) ([]Consumer, error)
	// DeleteConsumer deletes one; an error that wraps ErrNotFound says that there is none.
	DeleteConsumer(ctx context.Context, name string) error
}

// Consumer is one of them.
type Consumer struct {
	Name              string
	Durable           bool
	Filters           []string
	Created, LastUsed time.Time
	Unread            uint64 // events that it was not given yet
	AckPending        int    // events that it was given and has not acknowledged
	MaxAckPending     int    // of which there may be so many
	AckWait           time.Duration
	Waiting           int // requests of it that wait for an event
	InactiveThreshold time.Duration
}

// MarshalJSON shows times as everywhere in the API.
func (c Consumer) MarshalJSON() ([]byte, error) {
	if c.Filters == nil {
		c.Filters = []string{}
	}
	return json.Marshal(consumerAnswer{
		c.Name, c.Durable, c.Filters, utcSeconds(c.Created), utcSeconds(c.LastUsed), c.Unread, c.AckPending, c.MaxAckPending,
		c.AckWait.Seconds(), c.Waiting, c.InactiveThreshold.Seconds(),
	})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Consumer) UnmarshalJSON(b []byte) error {
	var a consumerAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	*c = Consumer{
		a.Name, a.Durable, a.Filters, a.Created, a.LastUsed, a.Unread, a.AckPending, a.MaxAckPending,
		time.Duration(a.AckWait * float64(time.Second)), a.Waiting, time.Duration(a.InactiveThreshold * float64(time.Second)),
	}
	return nil
}

// consumerAnswer is a consumer as the API shows it, its times in seconds.
type consumerAnswer struct {
	Name              string    `json:"name"`
	Durable           bool      `json:"durable"`
	Filters           []string  `json:"filters"` // empty: everything
	Created           time.Time `json:"created"`
	LastUsed          time.Time `json:"last_used"`
	Unread            uint64    `json:"unread"`
	AckPending        int       `json:"ack_pending"`
	MaxAckPending     int       `json:"max_ack_pending"`
	AckWait           float64   `json:"ack_wait"`
	Waiting           int       `json:"waiting"`
	InactiveThreshold float64   `json:"inactive_threshold"`
}

// listConsumers lists the consumers of programs outside.
func (s *Server) listConsumers(w http.ResponseWriter, r *http.Request, _ params) error {
	list, err := s.o.Consumers.Consumers(r.Context())
	if err != nil {
		return err
	}
	if list == nil {
		list = []Consumer{}
	}
	s.writeJSON(w, http.StatusOK, list)
	return nil
}

// deleteConsumer deletes one: its place in the journal is lost.
func (s *Server) deleteConsumer(w http.ResponseWriter, r *http.Request, p params) error {
	name := p.get("name")
	if err := checkName("a consumer", name); err != nil {
		return err
	}
	if err := s.o.Consumers.DeleteConsumer(r.Context(), name); err != nil {
		return controlError(err)
	}
	s.writeJSON(w, http.StatusOK, message{"Success"})
	return nil
}
