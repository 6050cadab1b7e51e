// Package wide adds and averages numbers whose sum may be too large for a float64. A sum that fits
// into a float64 is, bit for bit, that of plain additions in the same order. The numbers must be
// finite, and fewer than 2^64.
package wide

import "math"

// Scale is the factor for a sum that has left the range of float64. It is a power of two, so that
// no digit is lost.
const Scale = 0x1p-64

// Add adds v to a sum and returns the new sum. scaled reports that total is the sum times Scale; it
// never becomes false again.
func Add(total float64, scaled bool, v float64) (float64, bool) {
	if !scaled {
		sum := total + v
		if !math.IsInf(sum, 0) {
			return sum, false
		}
		total *= Scale
	}
	return total + v*Scale, true
}

// Merge adds two sums.
func Merge(total float64, scaled bool, other float64, otherScaled bool) (float64, bool) {
	if !otherScaled {
		return Add(total, scaled, other)
	}
	if !scaled {
		total *= Scale
	}
	return total + other, true
}

// Sum returns the sum itself. It is infinite if it does not fit into a float64.
func Sum(total float64, scaled bool) float64 {
	if scaled {
		return total / Scale
	}
	return total
}

// Mean returns the mean of n numbers; low is the least of them and high the greatest. The mean is
// never outside of low and high, although a rounded sum of equal numbers can be.
func Mean(total float64, scaled bool, n, low, high float64) float64 {
	return Clamp(Sum(total/n, scaled), low, high)
}

// Clamp returns mean, or low if mean is below low, or high if mean is above high. (min and max
// would change the sign of a zero.)
func Clamp(mean, low, high float64) float64 {
	switch {
	case mean < low:
		return low
	case mean > high:
		return high
	}
	return mean
}
