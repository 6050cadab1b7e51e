package relaywire

import (
	"strings"
	"unicode/utf8"
)

// ValidName reports whether s may be a collector's or a stat's name: 1 to MaxName bytes of UTF-8
// without '-', ':', ',' and control characters, neither beginning nor ending in a space, and not
// Reserved.
func ValidName(s string) bool { return CheckName(s) == nil }

// CheckName returns nil where ValidName is true, else ErrReserved or ErrBadName.
func CheckName(s string) error {
	switch {
	case s == Reserved:
		return ErrReserved
	case !validText(s, MaxName) || strings.ContainsAny(s, "-:,"):
		return ErrBadName
	}
	return nil
}

// ValidID reports whether s may be a relay's id: 1 to MaxName bytes of UTF-8 without control
// characters, neither beginning nor ending in a space, whose last word does not begin with token:.
func ValidID(s string) bool {
	return validText(s, MaxName) && !strings.HasPrefix(s[strings.LastIndexByte(s, ' ')+1:], tokenMark)
}

// ValidTag reports whether s may be a tag: up to MaxTag bytes of UTF-8 without ',' and control
// characters, neither beginning nor ending in a space.
func ValidTag(s string) bool { return validText(s, MaxTag) && strings.IndexByte(s, ',') < 0 }

// ValidToken reports whether s may be a relay token: 1 to MaxName bytes of UTF-8 without spaces and
// control characters, and not only token:. A leading token: is not part of the token.
func ValidToken(s string) bool {
	return validText(s, MaxName) && strings.IndexByte(s, ' ') < 0 && TrimToken(s) != ""
}

// SplitTag splits a tag at its first colon. ok is false for a bare word. A tag with nothing before
// or after the colon counts as a bare word too.
func SplitTag(tag string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(tag, ":")
	if key == "" || value == "" {
		return "", "", false
	}
	return key, value, ok
}

func validText(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	ascii := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}
