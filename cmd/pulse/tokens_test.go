package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/command"
)

// --check-config fails if the server's start would fail. It names the flag, but does not show the
// token.
func TestTokensThatCannotBeGiven(t *testing.T) {
	const mistake = "must not begin or end with a blank or a line break"
	for _, test := range []struct{ flag, token, want string }{
		{"token", "", "must not be empty"},
		{"token", " 5ecret", mistake},
		{"token", "5ecret\t", mistake},
		{"token", "5ecret\n", mistake},
		{"token", "5ecret\r\n", mistake},
		{"token", "5ec\nret", "must not hold line breaks"},
		{"token", "5ec\x01ret", "must not hold line breaks or other control characters"},
		{"token", "5ec\x7fret", "must not hold line breaks or other control characters"},
		{"token", "$2a$10$5ecret", "as the password of NATS clients it looks like a bcrypt hash"},
		{"token", strings.Repeat("5ecret", 600), "as the password of NATS clients it is longer than 3072 bytes"},
		{"token", "5ecret\xff", "as the password of NATS clients it is not UTF-8"},
		{"read-token", " 5ecret", mistake},
		{"read-token", "5ec\nret", "must not hold line breaks"},
		{"read-token", "$2a$10$5ecret", "as the password of NATS clients it looks like a bcrypt hash"},
		{"read-token", "secret", "it is the --token, which allows everything"},
		{"relay-token", " 5ecret", mistake},
		{"relay-token", "5ecret ", mistake},
		{"relay-token", "5ecret\n", mistake},
		{"relay-token", "5ec ret", "must not hold blanks"},
		{"relay-token", "5ec\nret", "must not hold line breaks"},
		{"relay-token", "5ec\x01ret", "must not hold line breaks or other control characters"},
		{"relay-token", strings.Repeat("5ecret", 50), "must have at most 255 bytes, not 300"},
		{"relay-token", "5ecret\xff", "must be UTF-8"},
	} {
		code, _, stderr := runCommand("--check-config", "--"+test.flag, test.token)
		if code != command.ExitUsage || !strings.Contains(stderr, "pulse: --"+test.flag+": "+test.want) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, mark) {
			t.Errorf("--%s %.20q: exit %d, it says %q, want %q", test.flag, test.token, code, stderr, test.want)
		}
	}
	for _, args := range [][]string{
		{"--token", "a b"}, {"--token", "a\tb"}, {"--token", "ü"}, {"--token", strings.Repeat("x", 300)}, {"--token", "$2a$"},
		{"--token", "$2a$10$abc", "--nats-listen-address", ""}, {"--token", strings.Repeat("x", 5000), "--nats-listen-address="},
		{"--read-token", ""}, {"--read-token", "a b"}, {"--relay-token", ""}, {"--relay-token", "ü"}, {"--relay-token", "$2a$10$abc"}, {"--relay-token", strings.Repeat("x", 255)},
	} {
		if code, _, stderr := runCommand(append(args, "--check-config")...); code != command.ExitOK || strings.Contains(stderr, "warning") {
			t.Errorf("%.40q: exit %d, it says %q", args, code, stderr)
		}
	}
}

// The commands that send a token report such a mistake too, before they do anything else.
func TestCommandsTokensThatCannotBeGiven(t *testing.T) {
	for _, args := range [][]string{
		{"relay", "--token", "5ec ret"}, {"relay", "--token", "5ecret\n"}, {"relay", "--token", strings.Repeat("5ecret", 50)},
		{"status", "--token", "5ecret\n"}, {"backup", "--token", " 5ecret", "x"}, {"replay", "--from", "1h", "--token", "5ec\nret"},
	} {
		code, _, stderr := runCommand(args...)
		if code != command.ExitUsage || !strings.Contains(stderr, "--token: must ") || strings.Contains(stderr, mark) {
			t.Errorf("%.40q: exit %d, it says %q", args, code, stderr)
		}
	}
}

// A token that is easy to guess is refused if other hosts can reach the listener that the token
// protects. A short token causes a warning.
func TestGuessableTokens(t *testing.T) {
	const good = "0123456789abcdef"
	for _, address := range [][]string{{"-H", "0.0.0.0:8080"}, {"-H", ":8080"}, {"-H", "pulse.example.org:8080"}, {"--nats-listen-address", "[::]:4222"}} {
		for token, want := range map[string]string{
			"secret":             "everybody knows the default token, and others can reach ",
			"seven77":            "it has 7 characters, and others can reach ",
			"übermut":            "it has 7 characters, and others can reach ",
			"PassWord":           "everybody tries this token first, and others can reach ",
			"changeme":           "everybody tries this token first, and others can reach ",
			"ADMIN":              "everybody tries this token first, and others can reach ",
			"1234567890":         "everybody tries this token first, and others can reach ",
			"01234567":           "everybody tries this token first, and others can reach ",
			"xxxxxxxxxxxxxxxxxx": "everybody tries this token first, and others can reach ",
		} {
			_, err := ParseConfig(append(address, "--token", token))
			if err == nil || !strings.HasPrefix(err.Error(), "--token: "+want) || !strings.Contains(err.Error(), "openssl rand -hex 16") {
				t.Errorf("%q with the token %q: %v, want %s", address, token, err, want)
			}
		}
		for token, warned := range map[string]bool{"eight888": true, "fifteen-letters": true, good: false} {
			c, err := ParseConfig(append(address, "--token", token))
			if err != nil || len(c.warnings()) > 0 != warned {
				t.Errorf("%q with the token %q: %v, warnings %q", address, token, err, c.warnings())
			}
		}
	}
	for _, token := range []string{"secret", "x", "password", "1234"} { // for this host only
		if c, err := ParseConfig([]string{"--token", token, "-H", "localhost:8080", "--nats-listen-address", "[::1]:4222"}); err != nil || len(c.warnings()) > 0 {
			t.Errorf("%q: %v, warnings %q", token, err, c.warnings())
		}
	}
}

func TestRelayPortWithoutAToken(t *testing.T) {
	for token, want := range map[string]string{
		"":                 "--relay-token: it is not set",
		"password":         "--relay-token: everybody tries this token first",
		"fifteen-letters":  "--relay-token: it has fewer than 16 characters",
		"0123456789abcdef": "",
	} {
		c, err := ParseConfig([]string{"-S", "0.0.0.0:3000", "--relay-token", token})
		if err != nil {
			t.Fatal(err)
		}
		if said := c.warnings(); want == "" && len(said) > 0 || want != "" && !slices.ContainsFunc(said, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("%q is warned of by %q", token, said)
		}
		if c, err := ParseConfig([]string{"-S", "127.0.0.1:3000", "--relay-token", token}); err != nil || len(c.warnings()) > 0 {
			t.Errorf("%q on loopback: %v", token, err)
		}
	}
}

// Warnings are lines of --check-config's standard error and of the log.
func TestWarningsAreTold(t *testing.T) {
	t.Parallel()
	args := []string{"-S", "0.0.0.0:0", "--token", "0123456789abcdef", "--influx-address", "embedded"}
	code, stdout, stderr := runCommand(append(args, "--check-config")...)
	if code != command.ExitOK || !strings.HasPrefix(stdout, "{") || !strings.HasPrefix(stderr, "pulse: warning: --relay-token: it is not set") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	said := &transcript{}
	s := startTelling(t, said, args...)
	stopProjected(t, s)
	if !strings.Contains(said.String(), `level=WARN msg="--relay-token: it is not set`) {
		t.Errorf("the log is %s", said)
	}
}
