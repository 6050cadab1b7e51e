package kapa

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of an alert.
const (
	// MaxDuration is as long as InfluxDB keeps single readings at least where Kapacitor asks for them.
	MaxDuration = 8 * hour
	// MaxEvery is the longest pause between two evaluations.
	MaxEvery = hour

	maxName = 256 // bytes of a metric, a tag's key or value
	maxTags = 32
	maxBy   = 8
)

// What a field may be, as the errors about it say.
const (
	wantMetric    = "the name of one stat: what stands behind the dash in `got cpu-used:1`"
	wantTags      = `an object of at most 32 texts, as {"host":"web1"}`
	wantBy        = `a list of at most 8 tags' keys, as ["host"]`
	wantLevel     = "one of info, warn, crit"
	wantOperator  = "one of gt, ge, lt, le, eq, ne"
	wantThreshold = "a finite number, or a string that holds one"
	wantRecover   = "a finite number, or left out"
	wantPost      = "an http:// or https:// URL with a host"
)

// validate returns a *FieldError for the first field that breaks a rule. It expects that the
// defaults are filled in.
func (a *Alert) validate() error {
	if err := a.validateWatched(); err != nil {
		return err
	}
	if err := checkURL(a.Post); err != nil {
		return &FieldError{Field: "post", Want: wantPost, Err: err}
	}
	return nil
}

// validateWatched checks everything but who is notified.
func (a *Alert) validateWatched() error {
	if err := checkName(a.Metric, "-:,"); err != nil {
		return &FieldError{Field: "metric", Want: wantMetric, Err: fmt.Errorf("it %w", err)}
	}
	if err := a.checkTags(); err != nil {
		return &FieldError{Field: "tags", Want: wantTags, Err: err}
	}
	if err := a.checkBy(); err != nil {
		return &FieldError{Field: "by", Want: wantBy, Err: err}
	}
	if !slices.Contains([]Level{Info, Warn, Crit}, a.Level) {
		return fieldError("level", wantLevel)
	}
	if !slices.Contains([]Operator{Greater, GreaterOrEqual, Less, LessOrEqual, Equal, NotEqual}, a.Operator) {
		return fieldError("operator", wantOperator)
	}
	if !finite(a.Threshold) {
		return fieldError("threshold", wantThreshold)
	}
	if !a.Duration.between(second, MaxDuration) {
		return fieldError("duration", `whole seconds from 1s to 8h, as "30s" or "5m"`)
	}
	if !a.Every.between(second, MaxEvery) {
		return fieldError("every", `whole seconds from 1s to 1h, as "30s"`)
	}
	if a.Deadman != 0 && !a.Deadman.between(a.Every, 24*hour) {
		return fieldError("deadman", fmt.Sprintf("whole seconds from every (%s) to 24h, or left out", a.Every))
	}
	return a.checkRecover()
}

func (a *Alert) checkRecover() error {
	if a.Recover == nil {
		return nil
	}
	as := ", as the operator is " + string(a.Operator)
	switch limit := *a.Recover; {
	case !finite(limit):
		return fieldError("recover", wantRecover)
	case a.Operator == Equal || a.Operator == NotEqual:
		return fieldError("recover", "left out"+as)
	case limit > a.Threshold && (a.Operator == Greater || a.Operator == GreaterOrEqual):
		return fieldError("recover", "at most the threshold"+as)
	case limit < a.Threshold && (a.Operator == Less || a.Operator == LessOrEqual):
		return fieldError("recover", "at least the threshold"+as)
	}
	return nil
}

func finite(n Number) bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

func (a *Alert) checkTags() error {
	if len(a.Tags) > maxTags {
		return fmt.Errorf("there are %d, more than %d", len(a.Tags), maxTags)
	}
	for _, key := range slices.Sorted(maps.Keys(a.Tags)) {
		if err := checkKey(key); err != nil {
			return err
		}
		reserved := ","
		if key == hostTag {
			reserved = "" // a relay's id may have it
		}
		if err := checkName(a.Tags[key], reserved); err != nil {
			return fmt.Errorf("the value of %.40q %w", key, err)
		}
	}
	return nil
}

func (a *Alert) checkBy() error {
	if len(a.By) > maxBy {
		return fmt.Errorf("there are %d, more than %d", len(a.By), maxBy)
	}
	for i, key := range a.By {
		if err := checkKey(key); err != nil {
			return err
		}
		if slices.Contains(a.By[:i], key) {
			return fmt.Errorf("%.40q is there twice", key)
		}
	}
	return nil
}

// checkKey says what is wrong with a tag's key.
func checkKey(key string) error {
	if err := checkName(key, ":,"); err != nil {
		return fmt.Errorf("the key %.40q %w", key, err)
	}
	if key == "time" {
		return errors.New(`"time" cannot be a tag's key: InfluxDB keeps it for itself`)
	}
	return nil
}

// checkName says what is wrong with a name. It refuses what no relay can send, because an alert on
// such a name would watch nothing, for ever and in silence.
func checkName(s, reserved string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("has more than %d bytes", maxName)
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(s, isControl):
		return errors.New("has control characters")
	case s[0] == ' ' || s[len(s)-1] == ' ':
		return errors.New("begins or ends with a blank, which no relay sends")
	}
	if i := strings.IndexAny(s, reserved); i >= 0 {
		return fmt.Errorf("has %q in it, which no relay sends", s[i])
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
