package guesses

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync/atomic"
)

// Secret compares texts with a secret in a time that does not depend on the secret, not even on its
// length. The secret may change at any time. The zero value has none, and no text equals it.
type Secret struct {
	sum atomic.Pointer[[sha256.Size]byte] // nil: there is none
}

// Set changes the secret; "" means that there is none.
func (s *Secret) Set(text string) {
	if text == "" {
		s.sum.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(text))
	s.sum.Store(&sum)
}

// None reports whether there is no secret.
func (s *Secret) None() bool { return s.sum.Load() == nil }

// Equal reports whether a text is the secret.
func (s *Secret) Equal(text string) bool {
	sum, right := sha256.Sum256([]byte(text)), s.sum.Load()
	return right != nil && subtle.ConstantTimeCompare(sum[:], right[:]) == 1
}
