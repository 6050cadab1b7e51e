package kapa

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/influxnames"
)

// script is the template of every alert's task. It is constant: all that a user gave comes in as
// typed variables, which Kapacitor never parses as script. The level decides which of the three
// conditions can be true at all. An alert that gets another level while it fires leaves the old
// level at once.
const script = `var q string
var period duration
var every duration
var level string
var operator string
var threshold float
var quiet float
var name string
var url string
var groups list
var revision string

batch
    |query(q)
        .period(period)
        .every(every)
        .groupBy(groups)
    |alert()
        .id(name)
        .message('{{ .ID }} is {{ .Level }} value:{{ index .Fields "value" }}')
        .details('{{ .Message }}')
        .info(lambda: level == 'info' AND ` + beyondThreshold + `)
        .infoReset(lambda: level != 'info' OR !` + beyondQuiet + `)
        .warn(lambda: level == 'warn' AND ` + beyondThreshold + `)
        .warnReset(lambda: level != 'warn' OR !` + beyondQuiet + `)
        .crit(lambda: level == 'crit' AND ` + beyondThreshold + `)
        .critReset(lambda: level != 'crit' OR !` + beyondQuiet + `)
        .stateChangesOnly()
        .post(url)
`

const (
	beyondThreshold = `((operator == 'gt' AND "value" > threshold) OR (operator == 'ge' AND "value" >= threshold)` +
		` OR (operator == 'lt' AND "value" < threshold) OR (operator == 'le' AND "value" <= threshold)` +
		` OR (operator == 'eq' AND "value" == threshold) OR (operator == 'ne' AND "value" != threshold))`
	beyondQuiet = `((operator == 'gt' AND "value" > quiet) OR (operator == 'ge' AND "value" >= quiet)` +
		` OR (operator == 'lt' AND "value" < quiet) OR (operator == 'le' AND "value" <= quiet)` +
		` OR (operator == 'eq' AND "value" == quiet) OR (operator == 'ne' AND "value" != quiet))`
)

// templateID names the script by its content, so that two releases of Pulse beside each other do
// not change it back and forth.
func templateID() string {
	sum := sha256.Sum256([]byte(script))
	return "pulse-alert-" + hex.EncodeToString(sum[:4])
}

// variable is a typed variable of a task.
type variable struct {
	Type  string `json:"type"`
	Value any    `json:"value"`
}

// spelling turns names into what InfluxDB holds of them.
type spelling struct{ name, measurement func(string) string }

// variables are those of the alert's task. Where there are edges, a host is named by its edge too.
func variables(a *Alert, stored spelling, edges bool) map[string]variable {
	quiet := a.Threshold
	if a.Recover != nil {
		quiet = *a.Recover
	}
	groups := []variable{}
	by := a.By
	if edges && slices.Contains(by, hostTag) && !slices.Contains(by, edgeTag) {
		by = slices.Sorted(slices.Values(append([]string{edgeTag}, by...)))
	}
	for _, key := range by {
		groups = append(groups, variable{"string", stored.name(key)})
	}
	return map[string]variable{
		"q":         {"string", query(a, stored)},
		"period":    {"duration", int64(a.Duration)},
		"every":     {"duration", int64(a.Every)},
		"level":     {"string", string(a.Level)},
		"operator":  {"string", string(a.Operator)},
		"threshold": {"float", float64(a.Threshold)},
		"quiet":     {"float", float64(quiet)},
		// Kapacitor takes the id of an alert and the URL of a post for Go templates.
		"name":   {"string", a.nameTemplate(stored.name, edges)},
		"url":    {"string", literal(a.Post)},
		"groups": {"list", groups},
		// A list of tasks does not have their templates, so the template's id is a variable too.
		"revision": {"string", templateID()},
	}
}

// literal is a Go template that is this text, quoted, and nothing else.
func literal(text string) string { return "{{ " + strconv.Quote(text) + " }}" }

// query is the InfluxQL of the alert, in which names are quoted. The mean comes twice: as
// mean_<metric>, as in the posts of Pulse 0.2, and under the one name that the script can know.
func query(a *Alert, stored spelling) string {
	metric := stored.name(a.Metric)
	var b strings.Builder
	b.WriteString("SELECT mean(" + ident(metric) + ") AS " + ident("mean_"+metric) + ", mean(" + ident(metric) + ") AS value FROM " +
		ident(influxnames.Database) + "." + ident(influxnames.Raw) + "." + ident(stored.measurement(a.Metric)))
	word := " WHERE "
	for _, key := range slices.Sorted(maps.Keys(a.Tags)) {
		b.WriteString(word + ident(stored.name(key)) + " = " + influxql.QuoteString(stored.name(a.Tags[key])))
		word = " AND "
	}
	return b.String()
}

var identEscapes = strings.NewReplacer("\n", `\n`, `\`, `\\`, `"`, `\"`)

// ident quotes every identifier. QuoteIdent leaves what looks like a word alone, and its list of
// keywords need not be the one of the InfluxQL in Kapacitor.
func ident(s string) string { return `"` + identEscapes.Replace(s) + `"` }
