package relaywire

import (
	"bytes"
	"strconv"
)

// powers are the powers of ten that float64 holds exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// exactDigits is how many decimal digits always fit a float64's 53 bits.
const exactDigits = 15

// parseValue reads [+-] digits [. digits] [e [+-] digits] with a digit on at least one side of the
// point. It accepts nothing else: no hexadecimal, no underscores, no words. The error is
// ErrNoValue, ErrNotNumber or ErrNotFinite.
//
// Most readings are short. One correctly rounded operation on two exact numbers gives a correctly
// rounded result (Clinger, "How to read floating point numbers accurately", 1990), so parseValue
// computes short values in the same pass that checks them. It passes longer values to strconv
// through an alias, without a copy. The syntax has been checked by then, so overflow is the only
// error left, and the only case that allocates.
func parseValue(b []byte) (float64, error) {
	if len(b) == 0 {
		return 0, ErrNoValue
	}
	i, negative := 0, false
	if b[0] == '+' || b[0] == '-' {
		negative = b[0] == '-'
		i++
	}
	var mantissa uint64
	digits, significant, exponent := 0, 0, 0
	point := false
	for ; i < len(b); i++ {
		c := b[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if !isDigit(c) {
			break
		}
		digits++
		if significant > 0 || c != '0' {
			significant++
		}
		if significant <= exactDigits {
			mantissa = 10*mantissa + uint64(c-'0')
		}
		if point {
			exponent--
		}
	}
	if digits == 0 {
		return 0, notNumber(b)
	}
	if i < len(b) {
		e, ok := parseExponent(b[i:])
		if !ok {
			return 0, ErrNotNumber
		}
		exponent += e
	}
	if significant > exactDigits || exponent < -22 || exponent > 22 {
		v, err := strconv.ParseFloat(alias(b), 64)
		if err != nil {
			return 0, ErrNotFinite
		}
		return v, nil
	}
	v := float64(mantissa)
	if exponent < 0 {
		v /= powers[-exponent]
	} else {
		v *= powers[exponent]
	}
	if negative {
		v = -v
	}
	return v, nil
}

// parseExponent reads e [+-] digits. It stops counting beyond a million, because parseValue passes
// such exponents to strconv anyway.
func parseExponent(b []byte) (e int, ok bool) {
	if b[0] != 'e' && b[0] != 'E' {
		return 0, false
	}
	b = b[1:]
	negative := len(b) > 0 && b[0] == '-'
	if negative || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		if e < 1e6 {
			e = 10*e + int(c-'0')
		}
	}
	if negative {
		e = -e
	}
	return e, true
}

// notNumber returns ErrNotFinite for the words that Go, C, Python and JavaScript print for values
// that are not finite, and ErrNotNumber for any other text.
func notNumber(b []byte) error {
	if b[0] == '+' || b[0] == '-' {
		b = b[1:]
	}
	for _, word := range [...]string{"nan", "inf", "infinity"} {
		if len(b) == len(word) && bytes.EqualFold(b, []byte(word)) {
			return ErrNotFinite
		}
	}
	return ErrNotNumber
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
