package ingest

import (
	"net"
	"syscall"
)

// socket writes to a connection of the kernel without ever waiting: one system call, no deadline
// and no other goroutine. It belongs to its conn and is guarded by the conn's mu.
type socket struct {
	raw syscall.RawConn
	// once is write, bound when the connection comes, so that a write allocates nothing. It writes
	// buf and leaves in written how much the kernel took.
	once    func(fd uintptr) bool
	buf     []byte
	written int
}

// newSocket returns nil for a connection that is none of the kernel's, such as one with TLS.
func newSocket(c net.Conn) *socket {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.once = s.write
	return s
}

// take returns how much of b the kernel took: less than all of it when the connection's buffer is
// full or the connection is broken, which a write that waits will show.
func (s *socket) take(b []byte) int {
	s.buf, s.written = b, 0
	s.raw.Write(s.once)
	s.buf = nil
	return s.written
}

func (s *socket) write(fd uintptr) bool {
	if n, err := syscall.Write(int(fd), s.buf); err == nil {
		s.written = n
	}
	return true // never wait
}
