// Package floor rounds a time down to the start of its window or slot. Times before 1970 work too.
package floor

// Div returns a/b rounded down; b is positive.
func Div(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// To returns the highest multiple of step that is at most t; step is positive.
func To(t, step int64) int64 { return Div(t, step) * step }
