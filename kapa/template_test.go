package kapa

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/influxnames"
)

// checkQuery returns an error unless q queries the mean of the alert's metric with exactly the
// alert's tags.
func checkQuery(q string, a *Alert) error {
	parsed, err := influxql.ParseQuery(q)
	if err != nil {
		return err
	}
	if len(parsed.Statements) != 1 {
		return errors.New("not one statement")
	}
	s, ok := parsed.Statements[0].(*influxql.SelectStatement)
	if !ok || len(s.Sources) != 1 || len(s.Fields) != 2 || s.Target != nil || len(s.Dimensions) != 0 {
		return fmt.Errorf("not one simple select: %v", parsed)
	}
	m, ok := s.Sources[0].(*influxql.Measurement)
	if !ok || m.Database != influxnames.Database || m.RetentionPolicy != influxnames.Raw || m.Name != a.Metric {
		return fmt.Errorf("reads %v", s.Sources)
	}
	for i, alias := range []string{"mean_" + a.Metric, "value"} {
		call, ok := s.Fields[i].Expr.(*influxql.Call)
		if !ok || call.Name != "mean" || len(call.Args) != 1 || s.Fields[i].Alias != alias {
			return fmt.Errorf("selects %v", s.Fields)
		}
		if ref, ok := call.Args[0].(*influxql.VarRef); !ok || ref.Val != a.Metric {
			return fmt.Errorf("selects %v", s.Fields)
		}
	}
	found := map[string]string{}
	operators := 0
	influxql.WalkFunc(s.Condition, func(n influxql.Node) {
		b, ok := n.(*influxql.BinaryExpr)
		if !ok {
			return
		}
		operators++
		ref, isRef := b.LHS.(*influxql.VarRef)
		value, isString := b.RHS.(*influxql.StringLiteral)
		if b.Op == influxql.EQ && isRef && isString {
			found[ref.Val] = value.Val
		}
	})
	if len(a.Tags) > 0 && operators != 2*len(a.Tags)-1 || fmt.Sprint(found) != fmt.Sprint(a.Tags) {
		return fmt.Errorf("filters by %q, not by %q", found, a.Tags)
	}
	return nil
}

// asItIs leaves names unchanged.
var asItIs = spelling{strings.Clone, strings.Clone}

func TestNothingGivenIsLanguage(t *testing.T) {
	names := hostile()
	for i, name := range names {
		a := sampleAlert().withDefaults()
		a.Metric, a.Tags, a.Post = name, map[string]string{name: names[(i+1)%len(names)], "k" + name: name, "host": name}, "http://h/?"+name
		a.By = []string{"host", name}
		// The alert is not validated, because a state file of an earlier release may hold values
		// that are refused today.
		vars := variables(&a, asItIs, false)
		if err := checkQuery(vars["q"].Value.(string), &a); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		for key, v := range vars {
			if v.Type == "lambda" || v.Type == "star" || v.Type == "list" && key != "groups" || v.Type == "regex" {
				t.Errorf("%s is a %s, which Kapacitor parses", key, v.Type)
			}
		}
		if groups := vars["groups"].Value.([]variable); !slices.Equal(groups, []variable{{"string", a.By[0]}, {"string", a.By[1]}}) {
			t.Errorf("groups %v", groups)
		}
		a.By = nil
		vars = variables(&a, asItIs, false)
		// Kapacitor makes the alert's id and its URL with text/template.
		grouped := a
		grouped.By = []string{"host", name}
		group := map[string]any{"Tags": map[string]string{"host": "{{ h", name: name}}
		for key, want := range map[string]string{"name": a.Name(), "url": a.Post, "group": grouped.nameOf([]string{"{{ h", name})} {
			v := vars[key]
			if key == "group" {
				v = variables(&grouped, asItIs, false)["name"]
			}
			parsed, err := template.New("").Parse(v.Value.(string))
			if err != nil {
				t.Errorf("%s of %q: %v", key, name, err)
				continue
			}
			var b strings.Builder
			if err := parsed.Execute(&b, group); err != nil || b.String() != want {
				t.Errorf("%s: %q becomes %q, %v", key, want, b.String(), err)
			}
		}
	}
}

func TestQuery(t *testing.T) {
	a := Alert{Metric: "cpu", Tags: map[string]string{"host": "it's", "a": "b"}}
	stored := spelling{func(s string) string { return strings.ReplaceAll(s, "cpu", "CPU") }, strings.ToTitle}
	a.Metric = "cpu used"
	const want = `SELECT mean("CPU used") AS "mean_CPU used", mean("CPU used") AS value FROM "statistics"."one_day"."CPU USED" WHERE "a" = 'b' AND "host" = 'it\'s'`
	if got := query(&a, stored); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
