//go:build !linux

package hoststats

// systemLimits returns no limits: only Linux has control groups.
func systemLimits() limits { return limits{} }
