package influx

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
)

// Embedded is the address that means the engine in this process.
const Embedded = "embedded"

// secret matches the part of an address, valid or not, that may hold a password: all up to the last
// @.
var secret = regexp.MustCompile(`^.*@`)

// ParseAddress parses an InfluxDB address: http or https, a host, and optionally user:password@, a
// port and a path (of a proxy in front). The error repeats the address without the password and
// says which form is expected.
func ParseAddress(address string) (*url.URL, error) {
	fail := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("InfluxDB address %q: %s: expected http://host:8086 or https://host:8086, "+
			"with user:password@ before the host if the server wants them, or %q",
			secret.ReplaceAllString(address, "***@"), why, Embedded)
	}
	u, err := url.Parse(address)
	switch {
	case address == "":
		return fail("it is empty")
	case err != nil:
		return fail("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fail("it does not begin with http:// or https://")
	case u.Hostname() == "":
		return fail("the host is missing")
	case u.RawQuery != "" || u.Fragment != "":
		return fail("it goes on after the path")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fail("the port is not between 1 and 65535")
		}
	}
	return u, nil
}

// isLoopback reports whether u is this machine, where compressing costs more than it saves.
func isLoopback(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
