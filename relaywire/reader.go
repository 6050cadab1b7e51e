package relaywire

import (
	"bytes"
	"io"
	"sync"
)

// A Reader's buffer has smallBuffer bytes while no line is being read, so that ten thousand idle
// relays cost 6 MB. A line that does not fit borrows a buffer of the next larger class. The Reader
// gives the buffer back after the line has been handed over.
const (
	smallBuffer  = 512
	mediumBuffer = 4 << 10
	largeBuffer  = 16 << 10
	// maxEmptyReads is how many times in a row a source may return no bytes and no error.
	maxEmptyReads = 100
)

// The pools hold only memory that no Reader uses, so all servers of a process may share them. They
// hold pointers to arrays because storing a pointer does not allocate.
var (
	mediumPool = sync.Pool{New: func() any { return new([mediumBuffer]byte) }}
	largePool  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	maxPool    = sync.Pool{New: func() any { return new([MaxLine]byte) }}
)

// Reader reads messages from a connection. It belongs to one goroutine.
type Reader struct {
	src io.Reader
	// buf[start:end] is read but not yet handed over; buf[start:scanned] holds no newline.
	buf                 []byte
	start, scanned, end int
	tooLong             bool
	small               [smallBuffer]byte
}

// NewReader returns a Reader of src's lines. It reads ahead, so nobody else should read from src
// afterwards.
func NewReader(src io.Reader) *Reader {
	r := &Reader{src: src}
	r.buf = r.small[:]
	return r
}

// Read returns the next message, which is valid until the next Read. Read blocks while the source
// blocks.
//
// The error is io.EOF when the source ended after a whole line, io.ErrUnexpectedEOF when it ended
// within one, ErrLineTooLong (every later Read returns it again), io.ErrNoProgress from a broken
// source, or the source's own error as it is. After a source's error, such as a passed deadline,
// Read may be called again: nothing that was read is lost.
func (r *Reader) Read() (Message, error) {
	for empty := 0; ; {
		if i := bytes.IndexByte(r.buf[r.scanned:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.scanned+i]
			r.start = r.scanned + i + 1
			r.scanned = r.start
			return Parse(line), nil
		}
		r.scanned = r.end
		if r.tooLong || !r.makeRoom() {
			r.tooLong = true
			return Message{}, ErrLineTooLong
		}
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			// Bytes that came with an error are checked first; a source that has ended returns its
			// error again.
			empty = 0
		case err == io.EOF && r.end > r.start:
			return Message{}, io.ErrUnexpectedEOF
		case err != nil:
			return Message{}, err
		default:
			if empty++; empty >= maxEmptyReads {
				return Message{}, io.ErrNoProgress
			}
		}
	}
}

// Buffered returns how many bytes have been read from the source but not handed over yet: more than
// 0 means that the next Read may return at once.
func (r *Reader) Buffered() int { return r.end - r.start }

// makeRoom makes free space after end, in the smallest buffer that is large enough. It is called
// only when the buffer holds no whole line. It gives a borrowed buffer back, because the message
// that aliased the buffer is no longer valid. It returns false when a line fills the largest
// buffer.
func (r *Reader) makeRoom() bool {
	pending := r.end - r.start
	switch {
	case pending < smallBuffer:
		r.moveTo(r.small[:])
	case r.end < len(r.buf):
	case r.start > 0:
		r.moveTo(r.buf)
	case len(r.buf) == smallBuffer:
		r.moveTo(mediumPool.Get().(*[mediumBuffer]byte)[:])
	case len(r.buf) == mediumBuffer:
		r.moveTo(largePool.Get().(*[largeBuffer]byte)[:])
	case len(r.buf) == largeBuffer:
		r.moveTo(maxPool.Get().(*[MaxLine]byte)[:])
	default:
		return false
	}
	return true
}

// moveTo puts the pending bytes at the beginning of buf and gives the old buffer back to its pool.
func (r *Reader) moveTo(buf []byte) {
	old := r.buf
	if r.start > 0 || len(old) != len(buf) {
		copy(buf, old[r.start:r.end])
	}
	r.start, r.end = 0, r.end-r.start
	r.scanned = r.end
	r.buf = buf
	if len(old) == len(buf) {
		return
	}
	switch len(old) {
	case mediumBuffer:
		mediumPool.Put((*[mediumBuffer]byte)(old))
	case largeBuffer:
		largePool.Put((*[largeBuffer]byte)(old))
	case MaxLine:
		maxPool.Put((*[MaxLine]byte)(old))
	}
}
