package kapa

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/strictjson"
)

const (
	second = Duration(time.Second)
	minute = Duration(time.Minute)
	hour   = Duration(time.Hour)
)

// Number is a float64 that JSON may give as a number or as a string that holds one. It is written
// as a number.
type Number float64

var decimal = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$`)

// UnmarshalJSON takes 80 and "80".
func (n *Number) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	// ParseFloat alone takes 0x1p-2, 1_000 and inf as well.
	if !decimal.MatchString(text) {
		return fmt.Errorf("%.40q is not a number", text)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return fmt.Errorf("%.40q is not a finite number", text)
	}
	*n = Number(f)
	return nil
}

// Duration is a time.Duration that JSON gives as text: "30s", "5m", "1h30m", "1d", "1w".
type Duration time.Duration

// UnmarshalJSON takes the text form, up to a year. It refuses "0s", which would mean the default.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%.40s is not a text", data)
	}
	parsed, err := duration.Parse(text, 365*duration.Day)
	switch {
	case errors.Is(err, duration.ErrTooLong):
		return fmt.Errorf("%.40q is too long", text)
	case err != nil:
		return fmt.Errorf("%.40q is not a duration", text)
	case parsed == 0:
		return fmt.Errorf("%.40q is no time at all", text)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// String is the duration without the units of which there are none: 5m, not 5m0s.
func (d Duration) String() string { return duration.Text(time.Duration(d)) }

// between reports whether d is whole seconds from low to high.
func (d Duration) between(low, high Duration) bool { return d >= low && d <= high && d%second == 0 }

// wanted is where a field of a request goes, and what it may be.
type wanted struct {
	into any // nil: the field is passed over
	want string
}

func (a *Alert) fields() map[string]wanted {
	return map[string]wanted{
		"id":        {&a.ID, "a text"},
		"tags":      {&a.Tags, wantTags},
		"metric":    {&a.Metric, wantMetric},
		"level":     {&a.Level, wantLevel},
		"operator":  {&a.Operator, wantOperator},
		"threshold": {&a.Threshold, wantThreshold},
		"duration":  {&a.Duration, `a text as "30s" or "5m"`},
		"post":      {&a.Post, wantPost},
		"every":     {&a.Every, `a text as "30s"`},
		"recover":   {&a.Recover, wantRecover},
		"deadman":   {&a.Deadman, `a text as "10m", or left out`},
		"by":        {&a.By, wantBy},
		"status":    {nil, ""},
		"warning":   {nil, ""},
	}
}

// Decode reads the alert object of a request: one JSON object, no field that an alert has not, none
// twice. What is left out gets its default. The fields `status` and `warning` of an answer are
// passed over, so that an answer can be sent back. The error is a *[FieldError].
func Decode(text []byte) (Alert, error) {
	var a Alert
	err := a.decode(text, a.fields(), []string{"metric", "threshold", "post"})
	if err != nil {
		return a, err
	}
	a = a.withDefaults()
	return a, a.validate()
}

// DecodeTrial reads an alert as Decode does, with `from` and `to` beside its fields. `id` and `post`
// are passed over, because nothing is made and nothing is posted.
func DecodeTrial(text []byte) (a Alert, from, to string, err error) {
	const want = "a text: a time, or how far back"
	fields := a.fields()
	fields["id"], fields["post"] = wanted{}, wanted{}
	fields["from"], fields["to"] = wanted{&from, want}, wanted{&to, want}
	if err := a.decode(text, fields, []string{"metric", "threshold", "from"}); err != nil {
		return a, "", "", err
	}
	a = a.withDefaults()
	return a, from, to, a.validateWatched()
}

// decode reads a JSON object into where the fields go.
func (a *Alert) decode(text []byte, fields map[string]wanted, required []string) error {
	given, err := strictjson.Fields(text)
	if err != nil {
		return &FieldError{Want: "one JSON object, an alert", Err: err}
	}
	seen := map[string]bool{}
	for _, f := range given {
		field, known := fields[f.Name]
		switch {
		case !known:
			more := "deadman and by"
			if _, isTrial := fields["from"]; isTrial {
				more = "deadman and by, and a test of one from and to"
			}
			return fieldError(fmt.Sprintf("%.64q", f.Name), "left out: an alert has id, tags, metric, level, "+
				"operator, threshold, duration, post, every, recover, "+more)
		case f.Again:
			return fieldError(f.Name, "given once")
		}
		seen[f.Name] = true
		if field.into == nil || string(f.Value) == "null" && f.Name != "threshold" {
			continue
		}
		if err := json.Unmarshal(f.Value, field.into); err != nil {
			return &FieldError{Field: f.Name, Want: field.want, Err: plainly(f.Name, err)}
		}
	}
	for _, name := range required {
		if !seen[name] {
			return fieldError(name, "given: "+fields[name].want)
		}
	}
	return nil
}

// plainly says what JSON had in the wrong place, without the words of Go.
func plainly(field string, err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	what := "it"
	if field == "tags" && wrong.Type.Kind() == reflect.String {
		what = "a value"
	}
	return fmt.Errorf("%s is of type %s", what, wrong.Value)
}
