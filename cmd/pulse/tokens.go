package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal/outside"
)

// Lengths of a token on an address that others can reach, in characters.
const (
	leastToken = 8  // fewer are refused
	goodToken  = 16 // fewer are warned of
)

// makeToken is a command that makes a good token.
const makeToken = "openssl rand -hex 16"

// firstGuesses are the tokens that everybody tries first, in lower case.
var firstGuesses = []string{
	"secret", "password", "passwd", "passw0rd", "p@ssw0rd", "password1", "password12", "password123", "password1234",
	"admin", "admin123", "admin1234", "administrator", "root", "root1234", "pulse", "pulse123", "pulsepulse", "nanopack",
	"changeme", "change-me", "change_me", "changeit", "changethis", "change-this", "replaceme", "choose-your-own",
	"default", "example", "test", "testing", "test1234", "testtest", "demo", "letmein", "welcome", "welcome1", "iloveyou",
	"token", "tokentoken", "mytoken", "my-token", "yourtoken", "your-token", "secrettoken", "secret-token", "supersecret", "topsecret",
	"secret123", "secretsecret", "mysecret", "my-secret", "apitoken", "api-token", "x-auth-token", "authtoken", "auth-token",
	"qwerty", "qwertyui", "qwerty123", "qwertyuiop", "asdfghjkl", "1q2w3e4r", "1qaz2wsx", "abc12345", "abcd1234", "abcdefgh",
	"influxdb", "monitoring", "telegraf", "grafana",
}

// isFirstGuess reports whether everybody tries this token first: a word of the list, one character
// repeated, or the digits in order.
func isFirstGuess(token string) bool {
	token = strings.ToLower(token)
	first, _ := utf8.DecodeRuneInString(token)
	return slices.Contains(firstGuesses, token) || strings.Trim(token, string(first)) == "" ||
		strings.HasPrefix("1234567890123456789012345678901234567890", token) || strings.HasPrefix("01234567890123456789012345678901234567890", token)
}

func setToken(c *Config, v string) error {
	if v == "" {
		return errors.New("must not be empty")
	}
	if wrong := command.TokenMistake(v); wrong != "" {
		return errors.New(wrong)
	}
	c.Token = v
	return nil
}

// validateTokens refuses tokens that no client could give, or that are easy to guess where others can
// reach the server.
func (c *Config) validateTokens() error {
	if err := c.validateToken("--token", c.Token); err != nil || c.ReadToken == "" {
		return err
	}
	if c.ReadToken == c.Token {
		return errors.New("--read-token: it is the --token, which allows everything: choose another (" + makeToken + " makes one)")
	}
	return c.validateToken("--read-token", c.ReadToken)
}

func (c *Config) validateToken(flag, token string) error {
	if c.NATSAddress != "" {
		if err := outside.CheckPassword(token); err != nil {
			return fmt.Errorf("%s: as the password of NATS clients it %w; choose another, or switch those off with --nats-listen-address=", flag, err)
		}
	}
	if address := c.reachable(); address != "" {
		return checkStrength(flag, token, address)
	}
	return nil
}

// checkStrength refuses a token that is easy to guess, at an address that others can reach.
func checkStrength(flag, token, address string) error {
	n := utf8.RuneCountInString(token)
	switch {
	case token == defaultToken:
		return fmt.Errorf("%s: everybody knows the default token, and others can reach %s: choose another (%s makes one), or listen on 127.0.0.1", flag, address, makeToken)
	case isFirstGuess(token):
		return fmt.Errorf("%s: everybody tries this token first, and others can reach %s: choose another (%s makes one), or listen on 127.0.0.1", flag, address, makeToken)
	case n < leastToken:
		return fmt.Errorf("%s: it has %d characters, and others can reach %s: choose one of %d or more (%s makes one of 32), or listen on 127.0.0.1", flag, n, address, leastToken, makeToken)
	}
	return nil
}

// isShort reports whether a token is worth a warning.
func isShort(token string) bool { return utf8.RuneCountInString(token) < goodToken }

// reachable returns an address that the token protects and that others can reach, or "".
func (c *Config) reachable() string {
	for _, address := range []string{c.NATSAddress, c.HTTPAddress} {
		if address != "" && !isLoopback(address) {
			return address
		}
	}
	return ""
}

// warnings returns warnings about what is allowed but unwise.
func (c *Config) warnings() (list []string) {
	if c.zone.Warning != "" {
		list = append(list, c.zone.Warning)
	}
	for _, one := range []struct{ flag, token string }{{"--token", c.Token}, {"--read-token", c.ReadToken}} {
		if address := c.reachable(); one.token != "" && address != "" && isShort(one.token) {
			list = append(list, fmt.Sprintf("%s: it has fewer than %d characters, and others can reach %s: %s makes a good one", one.flag, goodToken, address, makeToken))
		}
	}
	list = append(list, c.edgeWarnings()...)
	if isLoopback(c.RelayAddress) {
		return list
	}
	switch {
	case c.RelayToken == "":
		list = append(list, fmt.Sprintf("--relay-token: it is not set, and others can reach %s: they can all send readings; %s makes a token", c.RelayAddress, makeToken))
	case isFirstGuess(c.RelayToken):
		list = append(list, fmt.Sprintf("--relay-token: everybody tries this token first, and others can reach %s: %s makes a good one", c.RelayAddress, makeToken))
	case isShort(c.RelayToken):
		list = append(list, fmt.Sprintf("--relay-token: it has fewer than %d characters, and others can reach %s: %s makes a good one", goodToken, c.RelayAddress, makeToken))
	}
	return list
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
