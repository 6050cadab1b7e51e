package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/minio/highwayhash"
)

// The format of a block, as the server writes it. A record is
//
//	length      4 bytes, of the whole record; the highest bit tells that there are headers
//	number      8 bytes; the two highest bits tell of deletions
//	time        8 bytes
//	subject     2 bytes of length
//	...         the subject, the headers with 4 bytes of length before them, the message
//	checksum    8 bytes, HighwayHash-64 over number, time, subject, headers and message
//
// with little-endian numbers. The length is not under the checksum.
const (
	recordHead     = 22
	recordSum      = 8
	recordMin      = recordHead + recordSum
	recordMax      = MaxEventBytes + 64<<10 // the subject and more
	lengthHeaders  = 1 << 31
	numberDeletion = 3 << 62
)

// blockHash returns the keyed hash of the records of block n.
func blockHash(n int) (hash.Hash64, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", StreamName, n))
	return highwayhash.New64(key[:])
}

// extent is a range of bytes in a block.
type extent struct{ from, to int }

// blockScan is what a block holds.
type blockScan struct {
	records     []extent // of intact records, joined where they touch
	first, last uint64   // the numbers of the first and of the last intact event, 0 if there is none
	// lost are the numbers between which there are bytes that are no record. A First of 0 means
	// that the block does not tell where they begin, a Last of 0 where they end.
	lost   []Span
	inside bool // an intact record follows after such bytes
	tail   int  // where bytes begin that no intact record follows; the block's length if there are none
	torn   bool // the tail is what a crash leaves: the beginning of one record, or zeros
}

// scanBlock finds the intact records of a block. After bytes that are no record it looks for the
// next place where one begins: a length that fits, a number that is higher than the last one, and
// the right checksum.
func scanBlock(data []byte, sum hash.Hash64) blockScan {
	var s blockScan
	for at := 0; at < len(data); {
		size, number := recordAt(data, at, s.last, sum)
		if size == 0 {
			next := at + 1
			for ; next < len(data); next++ {
				if size, number = recordAt(data, next, s.last, sum); size > 0 && number&numberDeletion == 0 {
					break
				}
			}
			if next >= len(data) {
				s.tail, s.torn = at, torn(data[at:], s.last)
				if !s.torn {
					s.lost = append(s.lost, Span{First: after(s.last)})
				}
				return s
			}
			s.inside = true
			if number > s.last+1 {
				s.lost = append(s.lost, Span{after(s.last), number - 1})
			}
			at = next
		}
		if n := len(s.records); n > 0 && s.records[n-1].to == at {
			s.records[n-1].to += size
		} else {
			s.records = append(s.records, extent{at, at + size})
		}
		if number&numberDeletion == 0 && number > s.last {
			if s.first == 0 {
				s.first = number
			}
			s.last = number
		}
		at += size
	}
	s.tail = len(data)
	return s
}

// after is the number after last, 0 if last is not known.
func after(last uint64) uint64 {
	if last == 0 {
		return 0
	}
	return last + 1
}

// recordAt returns the size and the number of the record that begins at the byte at, and 0 when
// none does that could follow the event last.
func recordAt(data []byte, at int, last uint64, sum hash.Hash64) (size int, number uint64) {
	rest := data[at:]
	if len(rest) < recordMin {
		return 0, 0
	}
	length := binary.LittleEndian.Uint32(rest)
	size = int(length &^ lengthHeaders)
	subject := int(binary.LittleEndian.Uint16(rest[20:]))
	head := subject
	if length&lengthHeaders != 0 {
		head += 4
	}
	if size < recordMin+head || size > len(rest) || size > recordMax {
		return 0, 0
	}
	number = binary.LittleEndian.Uint64(rest[4:])
	if number&numberDeletion == 0 && (number <= last || last > 0 && number-last > uint64(len(data))) {
		return 0, 0
	}
	body := rest[recordHead : size-recordSum]
	sum.Reset()
	sum.Write(rest[4:20])
	sum.Write(body[:subject])
	sum.Write(body[head:])
	var got [recordSum]byte
	if !bytes.Equal(sum.Sum(got[:0]), rest[size-recordSum:size]) {
		return 0, 0
	}
	return size, number
}

// torn reports whether rest is what a crash in the middle of a write leaves: zeros, or the
// beginning of the record after last.
func torn(rest []byte, last uint64) bool {
	if len(bytes.Trim(rest, "\x00")) == 0 {
		return true
	}
	if len(rest) < 12 {
		return true
	}
	size := int(binary.LittleEndian.Uint32(rest) &^ lengthHeaders)
	return size > len(rest) && size <= recordMax && binary.LittleEndian.Uint64(rest[4:]) == last+1
}
