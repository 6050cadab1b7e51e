// Package seal puts a checksum on the values of the state file. bbolt itself has a checksum on only
// two of its pages, so a bit that flips anywhere else would become a wrong value.
//
// Code that writes a value seals it, and code that reads a value opens it. Readers never get a
// broken value: package migrations checks every value when it opens the file, and removes those
// that are not as they were sealed.
package seal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// mark begins a sealed value. No unsealed value begins with these bytes, because unsealed values
// are JSON, numbers below 2^56, and text.
var mark = [4]byte{0xF5, 0x5E, 0xA1, 1}

const header = len(mark) + 4

// Seal returns value with a seal that depends on its key. An empty value gets a seal like any
// other.
func Seal(key, value []byte) []byte {
	sealed := make([]byte, 0, header+len(value))
	sealed = append(sealed, mark[:]...)
	sealed = binary.BigEndian.AppendUint32(sealed, sum(key, value))
	return append(sealed, value...)
}

// Open returns the value without its seal. A value of an earlier release, which has no seal, is
// returned unchanged, and so is nil.
func Open(stored []byte) []byte {
	if !bytes.HasPrefix(stored, mark[:]) || len(stored) < header {
		return stored
	}
	return stored[header:]
}

// Sealed reports whether a value has a seal, whole or broken.
func Sealed(stored []byte) bool {
	same := 0
	for i, b := range mark {
		if i < len(stored) && stored[i] == b {
			same++
		}
	}
	return same >= len(mark)-1 // one byte of the mark may be damaged
}

// Broken reports whether a value or its key has changed since the value was sealed. A value without
// a seal is not broken.
func Broken(key, stored []byte) bool {
	if !Sealed(stored) {
		return false
	}
	return len(stored) < header || !bytes.HasPrefix(stored, mark[:]) ||
		binary.BigEndian.Uint32(stored[len(mark):]) != sum(key, stored[header:])
}

// Whole reports whether a value has a seal and has not changed since it was sealed.
func Whole(key, stored []byte) bool { return Sealed(stored) && !Broken(key, stored) }

func sum(key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, table), table, value)
}
