// Package jsontext appends JSON to a buffer without an allocation.
package jsontext

import (
	"unicode/utf8"

	"github.com/nanopack/pulse/projector/internal/lookup"
)

const hex = "0123456789abcdef"

// AppendString appends s as a JSON string. Each byte that is not part of valid UTF-8 becomes
// U+FFFD. Control bytes are escaped, so that the text contains no newline.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		b := s[i]
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < ' ' || b == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		case b < utf8.RuneSelf:
			dst = append(dst, b)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r) // RuneError for an invalid byte
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}

// AppendTags appends tags as a JSON object.
func AppendTags(dst []byte, tags []lookup.Tag) []byte {
	dst = append(dst, '{')
	for i, t := range tags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, t.Key), ':')
		dst = AppendString(dst, t.Value)
	}
	return append(dst, '}')
}
