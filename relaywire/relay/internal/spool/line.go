package spool

import (
	"bufio"
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"strconv"
	"time"
)

// A segment is a text of lines, so that what follows a damaged line can still be read:
//
//	{crc} head {next} {dropped}             the first line: the number of the next record, and how many readings were ever dropped
//	{crc} record {seq} {ms} {readings} {items}
//	{crc} gone {first} {last} {dropped}     these records are no longer wanted; dropped as in head
//	{crc} every {ms} {collector}            how often the collector is polled
//
// crc is the CRC-32C of what follows it and the space, in 8 hex digits.
const (
	wordHead   = "head"
	wordRecord = "record"
	wordGone   = "gone"
	wordEvery  = "every"
)

// MaxItems is the longest text of a record's items: no line of the protocol holds more.
const MaxItems = 64 << 10

// maxLine is longer than any line of a segment.
const maxLine = MaxItems + 4<<10

// maxNumber is the largest number that is believed, so that no sum overflows.
const maxNumber = 1 << 62

var table = crc32.MakeTable(crc32.Castagnoli)

// beginLine appends the room of the CRC and the word; endLine fills that room in.
func beginLine(dst []byte, word string) []byte {
	dst = append(dst, "........ "...)
	return append(dst, word...)
}

func appendNumbers(dst []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		dst = strconv.AppendUint(append(dst, ' '), n, 10)
	}
	return dst
}

// endLine ends the line that began at start.
func endLine(dst []byte, start int) []byte {
	const digits = "0123456789abcdef"
	crc := crc32.Checksum(dst[start+9:], table)
	for i := range 8 {
		dst[start+i] = digits[crc>>(28-4*i)&15]
	}
	return append(dst, '\n')
}

func appendHead(dst []byte, next, dropped uint64) []byte {
	return endLine(appendNumbers(beginLine(dst, wordHead), next, dropped), len(dst))
}

func appendRecord(dst []byte, r Record) []byte {
	line := appendNumbers(beginLine(dst, wordRecord), r.Seq, uint64(max(r.Time, 0)), uint64(r.Readings))
	return endLine(append(append(line, ' '), r.Items...), len(dst))
}

func appendGone(dst []byte, r Range, dropped uint64) []byte {
	return endLine(appendNumbers(beginLine(dst, wordGone), r.First, r.Last, dropped), len(dst))
}

func appendEvery(dst []byte, name string, d time.Duration) []byte {
	line := appendNumbers(beginLine(dst, wordEvery), uint64(d.Milliseconds()))
	return endLine(append(append(line, ' '), name...), len(dst))
}

// line is one line of a segment: its word, its numbers and the text after them.
type line struct {
	word    string
	numbers [3]uint64
	text    []byte // aliases what was parsed
}

func (l line) record() Record {
	return Record{Seq: l.numbers[0], Time: int64(l.numbers[1]), Readings: int(l.numbers[2]), Items: l.text}
}

func (l line) gone() Range { return Range{l.numbers[0], l.numbers[1]} }

// parseLine reads a line without its newline; ok is false if the line is damaged.
func parseLine(b []byte) (l line, ok bool) {
	if len(b) < 9 || b[8] != ' ' {
		return line{}, false
	}
	crc, err := strconv.ParseUint(string(b[:8]), 16, 32)
	if err != nil || uint32(crc) != crc32.Checksum(b[9:], table) {
		return line{}, false
	}
	word, rest, _ := bytes.Cut(b[9:], []byte(" "))
	want := 0
	switch l.word = string(word); l.word {
	case wordHead:
		want = 2
	case wordRecord, wordGone:
		want = 3
	case wordEvery:
		want = 1
	default:
		return line{}, false
	}
	for i := range want {
		var number []byte
		number, rest, _ = bytes.Cut(rest, []byte(" "))
		if l.numbers[i], err = strconv.ParseUint(string(number), 10, 64); err != nil || l.numbers[i] > maxNumber {
			return line{}, false
		}
	}
	l.text = rest
	switch l.word {
	case wordRecord:
		ok = l.numbers[0] > 0
	case wordGone:
		ok = l.gone().Len() > 0
	default:
		ok = true
	}
	return l, ok
}

// scan calls each for every whole line of src and returns how many lines were damaged. A last line
// without its end was torn by the end of the process; it does not count.
func scan(src io.Reader, each func(line)) (damaged uint64, err error) {
	in := bufio.NewReaderSize(src, maxLine)
	for {
		b, err := in.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		switch {
		case errors.Is(err, io.EOF):
			return damaged, nil
		case err != nil:
			return damaged, err
		}
		l, ok := line{}, false
		if !tooLong {
			l, ok = parseLine(b[:len(b)-1])
		}
		if !ok {
			damaged++
			continue
		}
		each(l)
	}
}
