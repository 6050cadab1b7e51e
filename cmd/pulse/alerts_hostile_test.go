package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// hostileNames have a meaning to some program between a relay and a post: InfluxQL, TICKscript,
// line protocol, Go's templates, HTML, URLs. A relay can send each name as a stat, as a tag or as
// its id.
func hostileNames() []string {
	names := []string{
		`it's`, `say "hi"`, `back\slash`, `ends\`, `'; DROP DATABASE statistics; `, `" OR 1=1 `, `x" FROM "y`, `{{ .Level }}`, `}}{{ panic }}`,
		`'''`, `''') |alert()`, "`tick`", `$name`, `/.*/`, `*`, `a.b.c`, `a b=c d`, `ünï€ø`, `日本`, `<script>&amp;`, `%2e%2e/`, `../../x`, `select`,
		`\n`, `\'`, `\"`, `value`, `mean`, `"value"`, `#x`, `#!~#`, `=`, `;`, `(`, `lambda TRUE`,
	}
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// playHostileNames makes two alerts for each name: one on the stat with that name, and one on a
// shared stat, filtered by the tag with that name. Each alert must find only the readings of its
// own relay. Every second relay sends another value of the shared stat, so a mean that included a
// neighbour's readings would differ.
func playHostileNames(t *testing.T, s *pulseproc.Server, r *receiver, stored func(stat string) (series, field string)) error {
	const path = "hostile"
	want := make(map[string]bool)
	create := func(value string, fields map[string]any, query string) error {
		fields["threshold"], fields["duration"], fields["every"] = 80, "1m", "1s"
		fields["post"] = r.url(path) + "?x=" + strings.ReplaceAll(query, " ", "%20")
		if _, err := putAlert(s, http.MethodPost, fields); err != nil {
			return err
		}
		if value == "90" {
			series, field := stored(fields["metric"].(string))
			want[wantedPost(fields, series, field, "OK CRITICAL 90")] = true
		}
		return nil
	}
	for i, name := range hostileNames() {
		value := []string{"90", "10"}[i%2]
		tags := map[string]string{"k" + strings.ReplaceAll(name, ":", ""): name, "host": name}
		relay, err := connectSteady(t, s.RelayAddr, name, "k"+name+":"+name)
		if err != nil {
			return err
		}
		if err := create("90", map[string]any{"metric": name, "tags": tags}, name); err != nil {
			return err
		}
		if err := create(value, map[string]any{"metric": "shared", "tags": tags}, name); err != nil {
			return err
		}
		relay.say(fmt.Sprintf("got c0-%s:90,c0-shared:%s", name, value))
	}
	for len(want) > 0 {
		got, err := r.next(path)
		if err != nil {
			var missing []string
			for body := range want {
				missing = append(missing, body)
			}
			slices.Sort(missing)
			return fmt.Errorf("%w; missing:\n%s", err, strings.Join(missing, "\n"))
		}
		if !want[got] {
			return fmt.Errorf("posted %s", got)
		}
		delete(want, got)
	}
	if more := r.rest(path); len(more) > 0 {
		return fmt.Errorf("posted besides: %s", more)
	}
	return nil
}
