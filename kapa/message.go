package kapa

import (
	"encoding/json"
	"html"
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
	Name    string            `json:"name"`
	Tags    map[string]string `json:"tags,omitempty"` // the group's
	Columns []string          `json:"columns"`
	Values  [][]any           `json:"values"`
}

// post makes the post of a change with the value in words.
func (c *change) post(w *watch, value string) {
	a, s := &w.alert, &c.state
	start := time.Unix(0, c.at-int64(a.Duration)).UTC()
	row := []any{start, nil, nil}
	if s.Mean != nil && len(s.Silent) == 0 {
		row = []any{start, *s.Mean, *s.Mean}
	}
	// As Kapacitor: the window's start when it fires, its end when it is over.
	at := start
	if s.Level == "" {
		at = time.Unix(0, c.at).UTC()
	}
	if s.Announced == "" {
		s.Began = at.UnixNano()
	}
	series := messageSeries{Name: a.Metric, Tags: c.group.tags(a), Columns: []string{"time", "mean_" + a.Metric, "value"},
		Values: [][]any{row}}
	m := message{
		ID:            c.group.name(a),
		Time:          at,
		Duration:      time.Duration(at.UnixNano() - s.Began),
		Level:         s.Level.Word(),
		PreviousLevel: s.Announced.Word(),
		Recoverable:   true,
		Data:          messageData{[]messageSeries{series}},
	}
	m.Message = m.ID + " is " + m.Level + " value:" + value
	m.Details = html.EscapeString(m.Message)
	c.body, _ = json.Marshal(m) // cannot fail: all floats are finite, all times within four-digit years
	s.Announced, c.announced = s.Level, true
}
