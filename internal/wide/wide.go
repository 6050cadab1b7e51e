// Package wide adds and averages numbers whose sum is more than a float64 holds.
// A sum that a float64 holds is, bit for bit, that of plain additions in the same
// order. The numbers are finite, and fewer than 2^64.
package wide

import "math"

// Scale is what a sum that has left the range of float64 is multiplied with. It is a
// power of two, so that no digit is lost.
const Scale = 0x1p-64

// Add adds v to a sum and returns the new one. scaled reports that total is the sum
// times Scale; it never becomes false again.
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

// Sum is the sum itself, infinite if a float64 does not hold it.
func Sum(total float64, scaled bool) float64 {
	if scaled {
		return total / Scale
	}
	return total
}

// Mean is the mean of n numbers, of which low is the least and high the greatest. It
// is never outside of them, as a rounded sum of equal numbers can be.
func Mean(total float64, scaled bool, n, low, high float64) float64 {
	return Clamp(Sum(total/n, scaled), low, high)
}

// Clamp returns mean, or that of low and high which it is beyond. (min and max would
// change the sign of a zero.)
func Clamp(mean, low, high float64) float64 {
	switch {
	case mean < low:
		return low
	case mean > high:
		return high
	}
	return mean
}
