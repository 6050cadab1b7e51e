package testtools

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// reserve binds a free port of 127.0.0.1 without listening on it. No other process gets the port,
// while listeners of this process on it come and go. A connection to the port is refused while
// there is no listener.
func reserve() (release func(), address string, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("reserving a port: %w", err)
	}
	release = func() { _ = unix.Close(fd) }
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		release()
		return nil, "", fmt.Errorf("reserving a port: %w", err)
	}
	return release, fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), nil
}

// share lets a listener bind a reserved port.
func share(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	if controlErr != nil {
		return controlErr
	}
	return err
}
