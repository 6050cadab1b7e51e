// Package human writes numbers for people.
package human

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Thousands returns n with commas between its thousands: 1,234,567.
func Thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes returns a number of bytes to three digits: 1.23 GB.
func Bytes(n int64) string {
	f, unit := float64(n), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if f < 999.5 {
			break
		}
		f, unit = f/1000, larger
	}
	return strconv.FormatFloat(f, 'g', 3, 64) + " " + unit
}

// SizeFlag returns a size of at least n bytes with two digits, as a flag takes it: 70GB.
func SizeFlag(n int64) string {
	f, unit := float64(n), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1000, larger
	}
	step := 0.1
	for f/step > 99 {
		step *= 10
	}
	return strings.TrimSuffix(strconv.FormatFloat(math.Ceil(f/step)*step, 'f', 1, 64), ".0") + unit
}

// Seconds returns a number of seconds with its two largest units: 4s, 1m30s, 9h54m, 6d3h.
func Seconds(seconds float64) string {
	if seconds > 1e9 {
		return "years"
	}
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	units := []struct {
		is   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, unit := range units[:3] {
		if d < unit.is {
			continue
		}
		text := fmt.Sprint(int64(d/unit.is), unit.name)
		if rest := d % unit.is / units[i+1].is; rest > 0 {
			text += fmt.Sprint(int64(rest), units[i+1].name)
		}
		return text
	}
	return fmt.Sprint(int64(d/time.Second), "s")
}

// Several returns a number with the name of what is counted: 1 block, 1,234 blocks.
func Several(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return Thousands(uint64(n)) + " " + what
}
