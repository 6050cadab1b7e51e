package seal_test

import (
	"bytes"
	"testing"

	"github.com/nanopack/pulse/internal/seal"
)

func TestSeal(t *testing.T) {
	for _, value := range [][]byte{{}, []byte("{}"), []byte(`{"v":1}`), {0, 0, 0, 0, 0, 0, 0, 9}, bytes.Repeat([]byte{7}, 5000)} {
		sealed := seal.Seal([]byte("key"), value)
		if !bytes.Equal(seal.Open(sealed), value) || seal.Broken([]byte("key"), sealed) || !seal.Sealed(sealed) {
			t.Errorf("%x", value)
		}
		if !bytes.Equal(seal.Open(value), value) || seal.Broken([]byte("key"), value) || seal.Sealed(value) {
			t.Errorf("%x of an earlier release", value)
		}
		if !seal.Broken([]byte("kez"), sealed) {
			t.Errorf("%x under another key", value)
		}
	}
	if seal.Open(nil) != nil {
		t.Error("nothing became something")
	}
}

// A flipped bit in a key or in a sealed value is always noticed.
func TestEveryBit(t *testing.T) {
	key, value := []byte("relay 1"), []byte(`{"v":1,"collectors":[]}`)
	all := append(bytes.Clone(key), seal.Seal(key, value)...)
	for bit := range 8 * len(all) {
		flipped := bytes.Clone(all)
		flipped[bit/8] ^= 1 << (bit % 8)
		if !seal.Broken(flipped[:len(key)], flipped[len(key):]) {
			t.Errorf("bit %d", bit)
		}
	}
}
