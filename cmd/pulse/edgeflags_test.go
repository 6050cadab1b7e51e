package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/selfsigned"
)

// asEdge are the flags of an edge, and asHub those of a hub, both without mistakes.
var (
	asEdge = []string{"--edge-name", "ams1", "--hub-address", "hub.example.org:7000", "--hub-token", "0123456789abcdef"}
	asHub  = []string{"--hub-listen-address", "0.0.0.0:7000", "--edges", "ams1=0123456789abcdef,ber-2=fedcba9876543210"}
)

func with(args []string, more ...string) []string {
	return append(append([]string{"--check-config"}, args...), more...)
}

// TestEdgeFlagMistakes checks that each mistake is one line that names the flag and says what to do,
// and that no token is in it.
func TestEdgeFlagMistakes(t *testing.T) {
	cert := filepath.Join(t.TempDir(), "cert.pem")
	if err := selfsigned.Make(cert, filepath.Join(t.TempDir(), "key.pem"), "pulse"); err != nil {
		t.Fatal(err)
	}
	const hub = "--hub-listen-address=127.0.0.1:7000"
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a name alone":               {[]string{"--edge-name", "ams1"}, "give all three for an edge, or none; missing: --hub-address, --hub-token"},
		"a token alone":              {[]string{"--hub-token", "5ecret"}, "missing: --edge-name, --hub-address"},
		"no token":                   {[]string{"--edge-name", "ams1", "--hub-address", "a:1"}, "missing: --hub-token"},
		"a name with a dot":          {with(asEdge, "--edge-name", "ams.1"), `--edge-name: must be 1 to 64 of A-Z a-z 0-9 _ -, and not readings, relays or live, not "ams.1"`},
		"a name of ours":             {with(asEdge, "--edge-name", "readings"), "--edge-name: must be 1 to 64"},
		"a long name":                {with(asEdge, "--edge-name", strings.Repeat("x", 65)), "--edge-name: must be 1 to 64"},
		"a hub without a port":       {with(asEdge, "--hub-address", "hub"), `--hub-address: must be host:port, such as hub.example.org:7422, not "hub"`},
		"a hub without a host":       {with(asEdge, "--hub-address", ":7000"), "--hub-address: must be host:port"},
		"a hub at port 0":            {with(asEdge, "--hub-address", "hub:0"), "--hub-address: must be host:port"},
		"a token with blanks":        {with(asEdge, "--hub-token", "5ecret 5ecret"), "--hub-token: must not hold blanks"},
		"a token with a comma":       {with(asEdge, "--hub-token", "5ecret,5ecret"), "--hub-token: must not hold a comma"},
		"a ca alone":                 {[]string{"--hub-ca", cert}, "--hub-ca is given without --hub-address"},
		"a ca that is none":          {with(asEdge, "--hub-ca", "config.go"), "--hub-ca: config.go holds no PEM certificate"},
		"a ca that is nowhere":       {with(asEdge, "--hub-ca", "nowhere.pem"), "--hub-ca: open nowhere.pem: no such file"},
		"the edge's own token":       {with(asEdge, "--token", "0123456789abcdef"), "--hub-token: it is the --token of this pulse, which the other end of the link must not have: choose another"},
		"the edge's own relay token": {with(asEdge, "--relay-token", "0123456789abcdef"), "--hub-token: it is the --relay-token of this pulse"},
		"both":                       {with(asEdge, hub), "--hub-listen-address: an edge cannot be a hub too"},
		"edges of no hub":            {[]string{"--edges", "ams1=5ecret"}, "--edges is given without --hub-listen-address"},
		"a listener without a port":  {[]string{"--hub-listen-address", "0.0.0.0"}, `--hub-listen-address: must be host:port, such as 0.0.0.0:7422, not "0.0.0.0"`},
		"the relays' address":        {[]string{"--hub-listen-address", "127.0.0.1:3000"}, "--hub-listen-address must differ from"},
		"no pair":                    {[]string{hub, "--edges", "5ecret"}, "--edges: edge 1: must be NAME=TOKEN, and a comma between two edges"},
		"a comma too many":           {[]string{hub, "--edges", "ams1=5ecret,"}, "--edges: edge 2: must be NAME=TOKEN"},
		"a wrong name":               {[]string{hub, "--edges", "a=5ecret,5ecret/=1"}, "--edges: edge 2: its name must be 1 to 64"},
		"a name twice":               {[]string{hub, "--edges", "a=5ecret,a=5ecret2"}, "--edges: edge 2: it has the name of another"},
		"no token of an edge":        {[]string{hub, "--edges", "a="}, "--edges: edge 1: its token must not be empty"},
		"blanks in a token":          {[]string{hub, "--edges", "a=5ec ret"}, "--edges: edge 1: its token must not hold blanks"},
		"one token for two":          {[]string{hub, "--edges", "a=5ecret,b=5ecret"}, "--edges: a and b have the same token, so each could take the other's place: choose another for one (openssl rand -hex 16 makes one)"},
		"the hub's own token":        {[]string{hub, "--edges", "a=5ecret", "--token", "5ecret"}, "--edges: the token of a is the --token of this pulse"},
		"the hub's own read token":   {[]string{hub, "--edges", "a=5ecret", "--read-token", "5ecret"}, "--edges: the token of a is the --read-token of this pulse"},
		"a first guess":              {[]string{"--hub-listen-address", ":7000", "--edges", "a=password"}, "--edges: the token of a: everybody tries this token first, and others can reach :7000"},
		"a short token":              {[]string{"--hub-listen-address", ":7000", "--edges", "a=5ecret"}, "--edges: the token of a: it has 6 characters, and others can reach :7000"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := runCommand(with(test.args)...)
			if code != command.ExitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, mark) {
				t.Errorf("exit %d, it says %q, want %q", code, stderr, test.want)
			}
		})
	}
	for _, args := range [][]string{asEdge, asHub, with(asEdge, "--hub-ca", cert), {hub, "--edges", "a=x, b==y=="}, {"--hub-listen-address", "127.0.0.1:0", "--http-listen-address", "127.0.0.1:0", "--edges", "a=x"}} {
		if code, _, stderr := runCommand(with(args)...); code != command.ExitOK || strings.Contains(stderr, "warning") {
			t.Errorf("%q: exit %d, it says %q", args, code, stderr)
		}
	}
}

// TestEdgesOfAConfigFile reads the edges as an object and as a text, and prints them with their
// tokens masked.
func TestEdgesOfAConfigFile(t *testing.T) {
	want := map[string]string{"ams1": "5ecret-of-amsterdam", "ber-2": "5ecret-of-berlin=="}
	file := filepath.Join(t.TempDir(), "pulse.json")
	for _, edges := range []string{`{"ams1": {"token": "5ecret-of-amsterdam"}, "ber-2": {"token": "5ecret-of-berlin=="}}`, `"ams1=5ecret-of-amsterdam, ber-2=5ecret-of-berlin=="`} {
		writeFile(t, file, `{"hub-listen-address": "127.0.0.1:7000", "edges": `+edges+`}`)
		c, err := ParseConfig([]string{"-c", file})
		if err != nil || !maps.Equal(c.Edges, want) {
			t.Errorf("%s: %v, %v", edges, c, err)
		}
		code, stdout, stderr := runCommand("--check-config", "-c", file)
		var shown struct {
			Edges map[string]struct{ Token string }
		}
		if err := json.Unmarshal([]byte(stdout), &shown); err != nil || code != command.ExitOK || strings.Contains(stdout+stderr, mark) {
			t.Errorf("exit %d, %v, %s%s", code, err, stdout, stderr)
		}
		if len(shown.Edges) != 2 || shown.Edges["ber-2"].Token != masked {
			t.Errorf("it shows the edges %v", shown.Edges)
		}
	}
	writeFile(t, file, `{"hub-listen-address": "127.0.0.1:7000", "edges": {}}`)
	c, err := ParseConfig([]string{"-c", file})
	if err != nil || len(c.Edges) != 0 || !strings.HasPrefix(strings.Join(c.warnings(), ""), "--edges: there are none, so no edge can connect") {
		t.Errorf("no edges: %v", err)
	}
	t.Setenv("PULSE_EDGES", "ams1=5ecret")
	if c, err := ParseConfig([]string{"-c", file}); err != nil || c.Edges["ams1"] != "5ecret" {
		t.Errorf("from the environment: %v, %v", c, err)
	}
}

// TestEdgesOfAConfigFileMistakes checks that a mistake in the object is told with its line, without a
// token.
func TestEdgesOfAConfigFileMistakes(t *testing.T) {
	for name, test := range map[string]struct{ edges, want string }{
		"a list of names":            {`["ams1"]`, `"edges": must be an object like {"ams1": {"token": "..."}}`},
		"a list":                     {`["5ecret"]`, `line 3 of pulse.json: "edges": must be an object like {"ams1": {"token": "..."}}`},
		"null":                       {`null`, `"edges": must be an object like {"ams1": {"token": "..."}}`},
		"a token without its object": {`{"ams1": "5ecret"}`, `line 3 of pulse.json: "edges": the edge "ams1" must be {"token": "..."} and nothing else`},
		"an edge of null":            {`{"ams1": null}`, `the edge "ams1" must be {"token": "..."}`},
		"a misspelled key":           {`{"ams1": {"tokken": "5ecret"}}`, `the edge "ams1" must be {"token": "..."}`},
		"a number for a token":       {`{"ams1": {"token": 5}}`, `the edge "ams1" must be {"token": "..."}`},
		"no token":                   {`{"ams1": {}}`, `the token of the edge "ams1" must not be empty (openssl rand -hex 16 makes one)`},
		"a token with a comma":       {`{"ams1": {"token": "5ecret,5ecret"}}`, `the token of the edge "ams1" must not hold a comma`},
		"a name with a blank":        {`{"ams 1": {"token": "5ecret"}}`, `the name of an edge must be 1 to 64 of A-Z a-z 0-9 _ -, and not readings, relays or live, not "ams 1"`},
		"a name twice":               {`{"ams1": {"token": "5ecret"}, "ams1": {"token": "5ecret2"}}`, `the edge "ams1" is given twice`},
		"one token for two":          {`{"ams1": {"token": "5ecret"}, "ber1": {"token": "5ecret"}}`, `--edges: ams1 and ber1 have the same token`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			writeFile(t, "pulse.json", "{\"hub-listen-address\": \"127.0.0.1:7000\",\n\n\"edges\": "+test.edges+"}")
			code, _, stderr := runCommand("--check-config", "-c", "pulse.json")
			if code != command.ExitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, mark) {
				t.Errorf("exit %d, it says %q, want %q", code, stderr, test.want)
			}
		})
	}
}

// TestEdgeTokenWarnings: a short token at an address that others can reach is taken with a warning.
func TestEdgeTokenWarnings(t *testing.T) {
	for address, want := range map[string]int{"127.0.0.1:7000": 0, "0.0.0.0:7000": 1} {
		c, err := ParseConfig([]string{"--hub-listen-address", address, "--edges", "a=fifteen-letters,b=0123456789abcdef"})
		if err != nil {
			t.Fatal(err)
		}
		if said := c.warnings(); len(said) != want || want > 0 && !strings.HasPrefix(said[0], "--edges: the token of a has fewer than 16 characters, and others can reach 0.0.0.0:7000") {
			t.Errorf("%s is warned of by %q", address, said)
		}
	}
}

// TestReloadTakesEdges: a reload takes over tokens, and leaves who this Pulse is.
func TestReloadTakesEdges(t *testing.T) {
	parse := func(args []string) *Config {
		c, err := ParseConfig(args)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	merged, changed, left, err := parse(asHub).reloaded(parse([]string{"--hub-listen-address", "0.0.0.0:7001", "--edges", "cph=0123456789abcdeg"}))
	if err != nil || strings.Join(changed, " ") != "--edges" || strings.Join(left, " ") != "--hub-listen-address" || merged.HubListenAddress != "0.0.0.0:7000" || merged.Edges["cph"] == "" || len(merged.Edges) != 1 {
		t.Errorf("of a hub: %v, changed %q, left %q: %v", merged.Edges, changed, left, err)
	}
	merged, changed, left, err = parse(asEdge).reloaded(parse([]string{"--edge-name", "ams2", "--hub-address", "b:1", "--hub-token", "another-token"}))
	if err != nil || strings.Join(changed, " ") != "--hub-token" || strings.Join(left, " ") != "--edge-name --hub-address" || merged.EdgeName != "ams1" || merged.HubToken != "another-token" {
		t.Errorf("of an edge: changed %q, left %q: %v", changed, left, err)
	}
	for _, test := range []struct {
		running, next []string
		left          string
	}{
		{asEdge, nil, "--edge-name --hub-address --hub-token"}, {nil, asEdge, "--edge-name --hub-address --hub-token"},
		{asHub, nil, "--edges --hub-listen-address"}, {nil, asHub, "--edges --hub-listen-address"},
	} {
		merged, changed, left, err := parse(test.running).reloaded(parse(append([]string{"--cors-allow", "x"}, test.next...)))
		if err != nil || strings.Join(changed, " ") != "--cors-allow" || strings.Join(left, " ") != test.left || merged.CORSAllow != "x" {
			t.Errorf("%q to %q: changed %q, left %q: %v", test.running, test.next, changed, left, err)
		}
	}
}
