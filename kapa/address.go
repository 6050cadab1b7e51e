package kapa

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"unicode/utf8"
)

const maxURL = 2048 // bytes

// errLinkLocal is why an address is refused. What lives at a link-local address (a cloud's
// metadata, a neighbour that needs no password from its own network) trusts whoever can reach it,
// and is no receiver of alerts.
var errLinkLocal = errors.New("it leads to a link-local address (169.254.0.0/16, fe80::/10), and alerts are not posted there")

func isLinkLocal(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast()
}

// refuseLinkLocal checks each address before it is connected to: what a name resolves to, and what
// a redirect leads to.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if isLinkLocal(a.Addr()) {
		return errLinkLocal
	}
	return nil
}

// checkURL says what is wrong with the URL of a receiver.
func checkURL(s string) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > maxURL:
		return errors.New("it has more than 2048 bytes")
	// url.Parse takes blanks and control characters in a query. They would end in a request line.
	case !utf8.ValidString(s), strings.Contains(s, " "), strings.ContainsFunc(s, isControl):
		return errors.New("it has blanks or control characters")
	}
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("it cannot be read as a URL")
	}
	if u.Hostname() == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("it is another kind of address")
	}
	a, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil && isLinkLocal(a):
		return errLinkLocal
	case err != nil && endsInNumber(u.Hostname()):
		return errors.New("its host is a number, and no address: write 127.0.0.1 as four numbers")
	}
	return nil
}

// endsInNumber reports whether the last part of a host is a number (10, 0x7f), as in no name. Some
// resolvers take such hosts for addresses.
func endsInNumber(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	digits := "0123456789"
	if isHex {
		last, digits = hex, digits+"abcdef"
	}
	return (last != "" || isHex) && strings.Trim(last, digits) == ""
}
