package spool

import (
	"bytes"
	"io"
	"os"
)

// segment is a part of the log. Its records have the numbers first to last without a gap; first is
// 0 while it has none.
type segment struct {
	first, last uint64
	left        int      // records that are not gone
	size        int64    // bytes
	path        string   // empty: in memory
	file        *os.File // only of the newest segment, if it has a path
	mem         []byte
	unreadable  bool // set aside until the next start
}

// blockSize is what the smallest file takes of the disk.
const blockSize = 4 << 10

func (s *segment) numbers() Range { return Range{s.first, s.last} }

// bytes is what the segment takes of the disk or of the memory.
func (s *segment) bytes() int64 {
	if s.path == "" {
		return s.size
	}
	return max(s.size, blockSize)
}

// write appends whole lines. After an error the file is as it was, or ends in a torn line.
func (s *segment) write(lines []byte) error {
	if s.path == "" {
		s.mem = append(s.mem, lines...)
		s.size += int64(len(lines))
		return nil
	}
	if _, err := s.file.Write(lines); err != nil {
		_ = s.file.Truncate(s.size) // the reader skips what stays
		return err
	}
	s.size += int64(len(lines))
	return nil
}

// scan calls each for every line.
func (s *segment) scan(each func(line)) (damaged uint64, err error) {
	if s.path == "" {
		return scan(bytes.NewReader(s.mem), each)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return scan(io.LimitReader(f, s.size), each)
}

// seal closes the file of a segment that gets no more lines.
func (s *segment) seal() {
	if s.file != nil {
		_ = s.file.Close() // nothing is buffered: each line was written
		s.file = nil
	}
}

// count notes that the record seq is in the segment. It returns the numbers that are missing before
// it; they count as left until they are dropped.
func (s *segment) count(seq uint64) (missing Range) {
	if s.first == 0 {
		s.first, s.last = seq, seq-1
	}
	missing = Range{s.last + 1, seq - 1}
	s.left += int(seq - s.last)
	s.last = seq
	return missing
}
