package kapa

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Level is how bad it is when an alert fires.
type Level string

// The levels.
const (
	Info Level = "info"
	Warn Level = "warn"
	Crit Level = "crit" // the default
)

// Word is what Kapacitor calls the level; that of no level is OK.
func (l Level) Word() string {
	switch l {
	case Info:
		return "INFO"
	case Warn:
		return "WARNING"
	case Crit:
		return "CRITICAL"
	}
	return "OK"
}

// Operator says on which side of the threshold an alert fires.
type Operator string

// The operators, each between the mean and the threshold.
const (
	Greater        Operator = "gt" // the default
	GreaterOrEqual Operator = "ge"
	Less           Operator = "lt"
	LessOrEqual    Operator = "le"
	Equal          Operator = "eq"
	NotEqual       Operator = "ne"
)

// Compare says whether `value operator limit` is true.
func (o Operator) Compare(value, limit float64) bool {
	switch o {
	case Greater:
		return value > limit
	case GreaterOrEqual:
		return value >= limit
	case Less:
		return value < limit
	case LessOrEqual:
		return value <= limit
	case Equal:
		return value == limit
	case NotEqual:
		return value != limit
	}
	return false
}

// Limits of an alert.
const (
	// MaxDuration is as long as raw readings are kept in InfluxDB.
	MaxDuration = 8 * hour
	// MaxEvery is the longest pause between two evaluations.
	MaxEvery = hour

	maxName = 256  // bytes of a metric, a tag's key or value
	maxURL  = 2048 // bytes
	maxTags = 32
	maxBy   = 8
)

// What a field may be, as its errors say.
const (
	wantMetric    = "the name of one stat: what stands behind the dash in `got cpu-used:1`"
	wantTags      = `an object of at most 32 texts, as {"host":"web1"}`
	wantBy        = `a list of at most 8 tags' keys, as ["host"]`
	wantThreshold = "a finite number, or a string that holds one"
	wantPost      = "an http:// or https:// URL with a host"
)

// Alert is what is watched, and whom to tell. The JSON form is the API's.
type Alert struct {
	// ID is given by Create and never changes.
	ID string `json:"id"`
	// Tags are what readings must have to count: all of them. None means every reading of the metric.
	Tags map[string]string `json:"tags"`
	// Metric is the stat's id.
	Metric string `json:"metric"`
	// Level is what the alert is when it fires (default crit).
	Level Level `json:"level"`
	// Operator is between the mean and Threshold (default gt).
	Operator Operator `json:"operator"`
	// Threshold may be a numeric string in what is sent; it is a number in what is answered.
	Threshold Number `json:"threshold"`
	// Duration is how far back the mean goes (default 5m; whole seconds up to 8h).
	Duration Duration `json:"duration"`
	// Post is the http or https URL that is told.
	Post string `json:"post"`
	// Every is how often the alert is evaluated (default 30s; whole seconds up to 1h).
	Every Duration `json:"every"`
	// Recover is hysteresis: an alert that fired is over when the mean is no longer beyond Recover, which is on the
	// quiet side of Threshold. nil means Threshold itself. For gt, ge, lt and le only.
	Recover *Number `json:"recover,omitempty"`
	// Deadman fires the alert when a relay (strictly: a collector) that sent matching readings has sent none for that
	// long (0: never; whole seconds, at least Every). The built-in evaluator has it, Kapacitor has not.
	Deadman Duration `json:"deadman,omitempty"`
	// By splits what matches by the values of these tags, and each group of readings has a state of its own. Empty is
	// one state over all. nil is the default: host for a deadman that does not ask for one host, else none. It is sorted.
	By []string `json:"by,omitzero"`
}

// over says whether an alert that fired is over at this mean.
func (a *Alert) over(mean float64) bool {
	if a.Recover == nil {
		return !a.Operator.Compare(mean, float64(a.Threshold))
	}
	return !a.Operator.Compare(mean, float64(*a.Recover))
}

// withDefaults fills in what was left out.
func (a Alert) withDefaults() Alert {
	if a.Tags == nil {
		a.Tags = map[string]string{}
	}
	if a.Level == "" {
		a.Level = Crit
	}
	if a.Operator == "" {
		a.Operator = Greater
	}
	if a.Duration == 0 {
		a.Duration = 5 * minute
	}
	if a.Every == 0 {
		a.Every = 30 * second
	}
	if a.By == nil && a.Deadman != 0 && a.Tags["host"] == "" {
		a.By = []string{"host"}
	}
	if !slices.IsSorted(a.By) {
		a.By = slices.Sorted(slices.Values(a.By))
	}
	return a
}

// validate returns a *FieldError for the first field that is not as it may be. It expects the defaults filled in.
func (a *Alert) validate() error {
	if err := checkName(a.Metric, "-:,"); err != nil {
		return &FieldError{Field: "metric", Want: wantMetric, Err: fmt.Errorf("it %w", err)}
	}
	if err := a.checkTags(); err != nil {
		return &FieldError{Field: "tags", Want: wantTags, Err: err}
	}
	if err := a.checkBy(); err != nil {
		return &FieldError{Field: "by", Want: wantBy, Err: err}
	}
	switch a.Level {
	case Info, Warn, Crit:
	default:
		return fieldError("level", "one of info, warn, crit")
	}
	switch a.Operator {
	case Greater, GreaterOrEqual, Less, LessOrEqual, Equal, NotEqual:
	default:
		return fieldError("operator", "one of gt, ge, lt, le, eq, ne")
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
	if err := checkURL(a.Post); err != nil {
		return &FieldError{Field: "post", Want: wantPost, Err: err}
	}
	if a.Deadman != 0 && !a.Deadman.between(a.Every, 24*hour) {
		return fieldError("deadman", fmt.Sprintf("whole seconds from every (%s) to 24h, or left out", a.Every))
	}
	return a.validateRecover()
}

func (a *Alert) validateRecover() error {
	if a.Recover == nil {
		return nil
	}
	if !finite(*a.Recover) {
		return fieldError("recover", "a finite number, or left out")
	}
	switch a.Operator {
	case Greater, GreaterOrEqual:
		if *a.Recover > a.Threshold {
			return fieldError("recover", "at most the threshold, as the operator is "+string(a.Operator))
		}
	case Less, LessOrEqual:
		if *a.Recover < a.Threshold {
			return fieldError("recover", "at least the threshold, as the operator is "+string(a.Operator))
		}
	default:
		return fieldError("recover", "left out, as the operator is "+string(a.Operator))
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
		if key == "host" {
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

// checkName says what is wrong with a name. What a relay cannot send is refused, so that a mistake is heard of and does
// not watch nothing for ever.
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

func checkURL(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	if len(s) > maxURL {
		return fmt.Errorf("it has more than %d bytes", maxURL)
	}
	// Blanks and control characters are refused where url.Parse would take them in a query: they end in a request line.
	if !utf8.ValidString(s) || strings.Contains(s, " ") || strings.ContainsFunc(s, isControl) {
		return errors.New("it has blanks or control characters")
	}
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("it cannot be read as a URL")
	}
	if u.Hostname() == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("it is another kind of address")
	}
	a, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil && isLinkLocal(a):
		return errLinkLocal
	case err != nil && endsInNumber(u.Hostname()):
		return errors.New("its host is a number, and no address: write 127.0.0.1 as four numbers")
	}
	return nil
}

// endsInNumber reports whether the last part of a host is a number (10, 0x7f), as in no name: some resolvers take such
// hosts for addresses.
func endsInNumber(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	digits := "0123456789"
	if isHex {
		last, digits = hex, digits+"abcdef"
	}
	return (last != "" || isHex) && strings.Trim(last, digits) == ""
}
