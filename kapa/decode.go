package kapa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	second = Duration(time.Second)
	minute = Duration(time.Minute)
	hour   = Duration(time.Hour)
)

// Number is a float64 that JSON may give as a number or as a string that holds one. It is written as a number.
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

var durationText = regexp.MustCompile(`^(\d{1,9}(ms|[smhdw]))+$`)
var durationPart = regexp.MustCompile(`(\d+)(ms|[smhdw])`)

// UnmarshalJSON takes the text form.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%.40s is not a text", data)
	}
	if len(text) > 40 || !durationText.MatchString(text) {
		return fmt.Errorf("%.40q is not a duration", text)
	}
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	total := 0.0
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		count, _ := strconv.Atoi(part[1]) // at most nine digits
		total += float64(count) * float64(units[part[2]])
	}
	if total > float64(365*24*time.Hour) {
		return fmt.Errorf("%.40q is too long", text)
	}
	if total == 0 { // it would mean the default
		return fmt.Errorf("%.40q is no time at all", text)
	}
	*d = Duration(total)
	return nil
}

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// String is the duration without units of which there are none: 5m, not 5m0s.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (d Duration) between(low, high Duration) bool { return d >= low && d <= high && d%second == 0 }

// Decode reads the alert object of a request: one JSON object, no field that an alert has not, none twice. What is left
// out gets its default. The answer's own fields, `status` and `warning`, are passed over, so that what was answered can be sent
// back. The error is a *[FieldError].
func Decode(r io.Reader) (Alert, error) {
	var a Alert
	seen := map[string]bool{}
	fields := map[string]struct {
		into any
		want string
	}{
		"id":        {&a.ID, "a text"},
		"tags":      {&a.Tags, wantTags},
		"metric":    {&a.Metric, wantMetric},
		"level":     {&a.Level, "one of info, warn, crit"},
		"operator":  {&a.Operator, "one of gt, ge, lt, le, eq, ne"},
		"threshold": {&a.Threshold, wantThreshold},
		"duration":  {&a.Duration, `a text as "30s" or "5m"`},
		"post":      {&a.Post, wantPost},
		"every":     {&a.Every, `a text as "30s"`},
		"recover":   {&a.Recover, "a finite number, or left out"},
		"deadman":   {&a.Deadman, `a text as "10m", or left out`},
		"by":        {&a.By, wantBy},
		"status":    {nil, ""},
		"warning":   {nil, ""},
	}
	dec := json.NewDecoder(r)
	bad := func(err error) error {
		return &FieldError{Want: "one JSON object, an alert", Err: err}
	}
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return a, bad(err)
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return a, bad(err)
		}
		name, _ := token.(string) // the decoder takes nothing else for a key
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return a, bad(err)
		}
		field, known := fields[name]
		if !known {
			return a, fieldError(fmt.Sprintf("%.64q", name), "left out: an alert has id, tags, metric, level, operator, threshold, duration, post, every, recover, deadman and by")
		}
		if seen[name] {
			return a, fieldError(name, "given once")
		}
		seen[name] = true
		if field.into == nil || bytes.Equal(raw, []byte("null")) && name != "threshold" {
			continue
		}
		if err := json.Unmarshal(raw, field.into); err != nil {
			return a, &FieldError{Field: name, Want: field.want, Err: plainly(name, err)}
		}
	}
	if _, err := dec.Token(); err != nil {
		return a, bad(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return a, bad(errors.New("there is more behind the object"))
	}
	for _, name := range []string{"metric", "threshold", "post"} {
		if !seen[name] {
			return a, fieldError(name, "given: "+fields[name].want)
		}
	}
	a = a.withDefaults()
	return a, a.validate()
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
