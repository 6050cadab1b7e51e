// Package streamtest reads server-sent events in tests, as a browser does.
package streamtest

import (
	"bufio"
	"io"
	"strings"
)

// Event is one block of a stream of server-sent events, as a browser takes it.
type Event struct {
	// Type is the event's name, Data its text. A block without data is not shown to anybody.
	Type, Data string
	// ID is the id that the block gives, "" if it gives none, Comment its last comment.
	ID, Comment string
	// Retry is the pause before a reconnect, in ms, as text.
	Retry string
}

// Events reads server-sent events.
type Events struct{ r *bufio.Reader }

// NewEvents reads from r.
func NewEvents(r io.Reader) *Events { return &Events{bufio.NewReader(r)} }

// Next returns the next whole block. What a cut connection left of one is thrown away: the error is
// r's.
func (e *Events) Next() (Event, error) {
	var ev Event
	for some := false; ; {
		line, err := e.r.ReadString('\n')
		if err != nil {
			return Event{}, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			if some {
				return ev, nil
			}
			continue
		}
		some = true
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			ev.Comment = value
		case "event":
			ev.Type = value
		case "id":
			ev.ID = value
		case "retry":
			ev.Retry = value
		case "data":
			if ev.Data != "" {
				ev.Data += "\n"
			}
			ev.Data += value
		}
	}
}
