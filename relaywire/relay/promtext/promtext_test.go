package promtext

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func text(s Sample) string {
	var b strings.Builder
	b.WriteString(s.Name)
	labels := slices.Clone(s.Labels)
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	for _, l := range labels {
		fmt.Fprintf(&b, " %s=%q", l.Name, l.Value)
	}
	fmt.Fprintf(&b, " %v", s.Value)
	return b.String()
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]string{
		"up 1":                                 "up 1",
		"  up\t+1e3  ":                         "up 1000",
		`a:b{} .5`:                             "a:b 0.5",
		`a{b="c",} 5`:                          `a b="c" 5`,
		`a { b = "c" , d="e\"\\\n" } -5`:       `a b="c" d="e\"\\\n" -5`,
		`a{b="",c="x"} 5`:                      `a c="x" 5`,
		`a{b="},{ ="} 5`:                       `a b="},{ =" 5`,
		"a{b=\"\u00e9\"} 5":                    `a b="é" 5`,
		`{"a.b c",d="e"} 5`:                    `a.b c d="e" 5`,
		`{"a.b","d e"="f"} 5`:                  `a.b d e="f" 5`,
		`a_bucket{le="+Inf"} 5`:                `a_bucket le="+Inf" 5`,
		"up":                                   "syntax",
		"up 1 2 3":                             "syntax",
		"up 1 x":                               "syntax",
		"up 1 1395066363000":                   "timestamp",
		"up x":                                 "not a number",
		"up 0x10":                              "not a number",
		"up 1_0":                               "not a number",
		"up 0,5":                               "not a number",
		"up NaN":                               "not finite",
		"up -Inf":                              "not finite",
		"up 1e999":                             "not finite",
		"up.5":                                 "syntax",
		"up-5":                                 "syntax",
		"9up 1":                                "syntax",
		"a-b 1":                                "syntax",
		`a{b="c"`:                              "syntax",
		`a{b="c} 5`:                            "syntax",
		`a{b=c} 5`:                             "syntax",
		`a{b="c"d="e"} 5`:                      "syntax",
		`a{b="c",b="d"} 5`:                     "syntax",
		`a{b="\x"} 5`:                          "syntax",
		"a{b=\"\xff\"} 5":                      "syntax",
		`a{"b"} 5`:                             "syntax",
		`{b="c"} 5`:                            "syntax",
		`a{,} 5`:                               "syntax",
		`a{b="` + strings.Repeat("x", MaxLine): "line too long",
	} {
		s, err := ParseLine([]byte(line))
		got := text(s)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.60q: %s, want %s", line, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	const file = "# HELP a A.\n# TYPE a counter\r\na 1\r\n\n  \nwhat is this\nb 2\nc 12"
	var got []string
	Parse([]byte(file), func(number int, line []byte, s Sample, err error) bool {
		got = append(got, fmt.Sprintf("%d %v %v", number, s, err))
		return true
	})
	want := []string{"3 {a [] 1} <nil>", "6 { [] 0} not a number", "7 {b [] 2} <nil>", "8 { [] 0} unfinished line"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

var odd = regexp.MustCompile(`(?m)^[ \t]*\{`)

// FuzzParse: whatever expfmt takes, Parse reads the same values of. Parse never panics, and what it
// yields is finite.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"# TYPE a counter\na{b=\"c\"} 5\n", "a 1 2\n", "{\"a.b\",c=\"d\"} 5\n", "a{b=\"\\n\\\"\",} NaN\n", "a 1\nb", "a{b=\"\"} 1\n",
		"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n", "# HELP a b\\q\n#\n\t a\t1\t\n", "a{b=\"c\",b=\"d\"} 1\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got := map[string]float64{}
		Parse(in, func(_ int, line []byte, s Sample, err error) bool {
			if err != nil {
				for _, known := range []error{ErrSyntax, ErrNotNumber, ErrNotFinite, ErrTimestamp, ErrUnfinished, ErrTooLong} {
					if err == known {
						return true
					}
				}
				t.Fatal(err)
			}
			if s.Name == "" || math.IsNaN(s.Value) || math.IsInf(s.Value, 0) || bytes.ContainsRune(line, '\n') {
				t.Fatalf("%q: %v", line, s)
			}
			v := s.Value
			s.Value = 0
			got[text(s)] = v
			return true
		})
		p := expfmt.NewTextParser(model.UTF8Validation)
		// Types make expfmt group lines, which is not what is compared. It takes \r for a blank or a
		// part of a word in places, a line of any length, and odd things where the name is in braces.
		if bytes.ContainsAny(in, "#\r") || odd.Match(in) || len(in) > MaxLine {
			return
		}
		families, err := p.TextToMetricFamilies(bytes.NewReader(in))
		if err != nil {
			return
		}
		for name, family := range families {
			for _, m := range family.Metric {
				check(t, got, name, m)
			}
		}
	})
}

func check(t *testing.T, got map[string]float64, name string, m *io_prometheus_client.Metric) {
	v := m.GetUntyped().GetValue()
	if math.IsNaN(v) || math.IsInf(v, 0) || m.TimestampMs != nil || len(m.Label) > MaxLabels {
		return
	}
	s := Sample{Name: name}
	for _, l := range m.Label {
		if l.GetValue() != "" {
			s.Labels = append(s.Labels, Label{l.GetName(), l.GetValue()})
		}
	}
	if _, ok := got[text(s)]; !ok { // a series that is there twice has the last value
		t.Fatalf("expfmt has %s %v, Parse %v", text(s), v, got)
	}
}
