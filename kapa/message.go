package kapa

import (
	"encoding/json"
	"fmt"
	"html"
	"strings"
	"time"
)

// message is what is posted, as Kapacitor 1.5 does.
type message struct {
	ID            string        `json:"id"`
	Message       string        `json:"message"`
	Details       string        `json:"details"`
	Time          time.Time     `json:"time"`
	Duration      time.Duration `json:"duration"` // ns since the alert left OK
	Level         string        `json:"level"`
	Data          messageData   `json:"data"`
	PreviousLevel string        `json:"previousLevel"`
	Recoverable   bool          `json:"recoverable"`
}

type messageData struct {
	Series []messageSeries `json:"series"`
}

type messageSeries struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Values  [][]any  `json:"values"`
}

// announce makes the post of a change, and the state that says that it was made.
func (c *change) announce() {
	a, s := &c.watch.alert, &c.state
	start := time.Unix(0, c.at-int64(a.Duration)).UTC()
	value := "none"
	row := []any{start, nil, nil}
	if s.Mean != nil {
		value = fmt.Sprint(*s.Mean)
		row = []any{start, *s.Mean, *s.Mean}
	}
	if len(s.Silent) > 0 {
		value = "none for " + a.Deadman.String() + " from " + list(s.Silent)
		row = []any{start, nil, nil}
	}
	// As Kapacitor: the window's start when it fires, its end when it is over.
	at := start
	if s.Level == "" {
		at = time.Unix(0, c.at).UTC()
	}
	if s.Announced == "" {
		s.Began = at.UnixNano()
	}
	m := message{
		ID:            a.Name(),
		Time:          at,
		Duration:      time.Duration(at.UnixNano() - s.Began),
		Level:         s.Level.Word(),
		PreviousLevel: s.Announced.Word(),
		Recoverable:   true,
		Data: messageData{[]messageSeries{{Name: a.Metric, Columns: []string{"time", "mean_" + a.Metric, "value"},
			Values: [][]any{row}}}},
	}
	m.Message = m.ID + " is " + m.Level + " value:" + value
	m.Details = html.EscapeString(m.Message)
	c.body, _ = json.Marshal(m) // cannot fail: all floats are finite, all times within four-digit years
	s.Announced, c.announced = s.Level, true
}

// list names a few.
func list(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func relayOf(key string) string {
	relay, _, _ := strings.Cut(key, "\x00")
	return relay
}
