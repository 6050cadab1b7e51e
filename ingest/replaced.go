package ingest

import "net"

// sayReplaced logs that the connection from newer has taken the place of the one from older.
func (srv *Server) sayReplaced(id, newer, older string, times uint64) {
	key, text := "replaced", "a relay came back before its old connection had ended, or two relays of one host use the same id: the older connection is closed"
	if hostOf(newer) != hostOf(older) {
		key, text = "replaced by another host", "two hosts use the same id, or one has another address now: the older connection is closed; give each relay an id of its own"
	}
	srv.quiet.warn(key, text, "relay", id, "newer", newer, "older", older, "times", times)
}

// hostOf is the address without its port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
