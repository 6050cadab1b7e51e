package outside

import (
	"net"
	"strings"
)

// words are the server's words for what it refuses a client, which it gives in its log only, and
// our reasons.
var words = []struct{ word, reason string }{
	{"authentication error", "password"}, {"Authentication Timeout", "password"},
	{"maximum account active connections", "connections"}, {"TLS handshake", "tls"}, {"Violation - ", "permission"},
	{"maximum payload", "payload"}, {"maximum subscriptions", "subscriptions"},
}

// Log implements [journal.Outside]: nothing that clients do looks like trouble with the journal, or
// fills the log.
func (c *Clients) Log(line string) bool {
	addr, text, ok := strings.Cut(line, " - ")
	if !ok || !strings.Contains(text, "cid:") {
		return false
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
		return false // a connection inside the process has no address
	}
	reason := "protocol"
	for _, known := range words {
		if strings.Contains(text, known.word) {
			reason = known.reason
			break
		}
	}
	c.refused(reason, line)
	return true
}

// refused counts what was refused for one of the reasons, and logs it once a minute for each
// reason.
func (c *Clients) refused(reason, text string) {
	c.m.refused.WithLabelValues(reason).Inc()
	c.log.WarnRarely(reason, "an outside client was refused", "reason", reason, "text", clip(text))
}

// clip bounds what a client says of itself in the log.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
