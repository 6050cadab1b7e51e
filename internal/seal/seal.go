// Package seal puts a checksum on the values of the state file: bbolt itself has one on two of its
// pages only, so that a bit that flips anywhere else is a wrong value.
//
// Who puts a value seals it, and who gets one opens it. What is broken never gets that far: package
// migrations looks at every value when it opens the file, and takes out what is not as it was
// sealed.
package seal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// mark begins a sealed value. No value that is not sealed begins like that: those are JSON, numbers
// below 2^56, and text.
var mark = [4]byte{0xF5, 0x5E, 0xA1, 1}

const header = len(mark) + 4

// Seal returns value under a seal that belongs to its key. An empty value is sealed as any other.
func Seal(key, value []byte) []byte {
	sealed := make([]byte, 0, header+len(value))
	sealed = append(sealed, mark[:]...)
	sealed = binary.BigEndian.AppendUint32(sealed, sum(key, value))
	return append(sealed, value...)
}

// Open returns the value under a seal. One without a seal, of an earlier release, is returned as it
// is, and nil as nil.
func Open(stored []byte) []byte {
	if !bytes.HasPrefix(stored, mark[:]) || len(stored) < header {
		return stored
	}
	return stored[header:]
}

// Sealed says whether a value has a seal, whole or broken.
func Sealed(stored []byte) bool {
	same := 0
	for i, b := range mark {
		if i < len(stored) && stored[i] == b {
			same++
		}
	}
	return same >= len(mark)-1 // one of them may be what is damaged
}

// Broken says whether a value, or its key, is not as it was sealed. A value without a seal is not
// broken.
func Broken(key, stored []byte) bool {
	if !Sealed(stored) {
		return false
	}
	return len(stored) < header || !bytes.HasPrefix(stored, mark[:]) ||
		binary.BigEndian.Uint32(stored[len(mark):]) != sum(key, stored[header:])
}

// Whole says whether a value has a seal, and is as it was sealed.
func Whole(key, stored []byte) bool { return Sealed(stored) && !Broken(key, stored) }

func sum(key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, table), table, value)
}
