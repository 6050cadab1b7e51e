package kapa

import "slices"

// Level is how bad it is when an alert fires.
type Level string

// The levels.
const (
	Info Level = "info"
	Warn Level = "warn"
	Crit Level = "crit" // the default
)

// Word is what Kapacitor calls the level. No level is OK.
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

// Compare reports whether `value operator limit` is true.
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

// Alert is what is watched, and who is notified. The JSON form is the API's.
type Alert struct {
	// ID is given by Create and never changes.
	ID string `json:"id"`
	// Tags are what readings must have to count: all of them. None means every reading of the
	// metric.
	Tags map[string]string `json:"tags"`
	// Metric is the stat's id.
	Metric string `json:"metric"`
	// Level is what the alert is when it fires (default crit).
	Level Level `json:"level"`
	// Operator is between the mean and Threshold (default gt).
	Operator Operator `json:"operator"`
	// Threshold may be a numeric string in a request. It is a number in an answer.
	Threshold Number `json:"threshold"`
	// Duration is how far back the mean goes (default 5m; whole seconds up to 8h).
	Duration Duration `json:"duration"`
	// Post is the http or https URL that is notified.
	Post string `json:"post"`
	// Every is how often the alert is evaluated (default 30s; whole seconds up to 1h).
	Every Duration `json:"every"`
	// Recover is hysteresis: an alert that fired is over when the mean is no longer beyond Recover,
	// which is on the quiet side of Threshold. nil means Threshold itself. For gt, ge, lt and le
	// only.
	Recover *Number `json:"recover,omitempty"`
	// Deadman fires the alert when a relay (strictly: a collector) that sent matching readings has
	// sent none for that long (0: never; whole seconds, at least Every). The built-in evaluator has
	// it, Kapacitor has not.
	Deadman Duration `json:"deadman,omitempty"`
	// By splits the readings that match by the values of these tags. Each group of readings has a
	// state of its own. Hosts of different edges are different hosts. Empty is one state over all
	// readings. nil is the default: host for a deadman that does not ask for one host, else none. By
	// is sorted.
	By []string `json:"by,omitzero"`
}

// over reports whether an alert that fired is over at this mean.
func (a *Alert) over(mean float64) bool {
	limit := a.Threshold
	if a.Recover != nil {
		limit = *a.Recover
	}
	return !a.Operator.Compare(mean, float64(limit))
}

// byHost reports whether each host is a group.
func (a *Alert) byHost() bool { return len(a.By) == 1 && a.By[0] == hostTag }

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
	if a.By == nil && a.Deadman != 0 && a.Tags[hostTag] == "" {
		a.By = []string{hostTag}
	}
	if !slices.IsSorted(a.By) {
		a.By = slices.Sorted(slices.Values(a.By))
	}
	return a
}
