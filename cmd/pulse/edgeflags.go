package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/strictjson"
	"github.com/nanopack/pulse/journal/codec"
)

// edgeNames says what an edge may be called.
var edgeNames = fmt.Sprintf("must be 1 to %d of A-Z a-z 0-9 _ -, and not readings, relays or live", codec.MaxEdge)

func setEdgeName(c *Config, v string) error {
	if v != "" && !codec.ValidEdge(v) {
		return fmt.Errorf("%s, not %q", edgeNames, v)
	}
	c.EdgeName = v
	return nil
}

func setHubAddress(c *Config, v string) error {
	host, port, err := net.SplitHostPort(v)
	if err == nil && host != "" {
		_, err = wholeNumber(port, 1, 65535)
	}
	if v != "" && (err != nil || host == "") {
		return fmt.Errorf("must be host:port, such as hub.example.org:7422, not %q", v)
	}
	c.HubAddress = v
	return nil
}

func setHubToken(c *Config, v string) error {
	c.HubToken = v
	if v == "" {
		return nil
	}
	return checkEdgeToken(v)
}

// setEdges reads NAME=TOKEN,NAME=TOKEN. An error names an edge by its number, because what looks like
// a name may be a part of a token.
func setEdges(c *Config, v string) error {
	c.Edges = make(map[string]string)
	if v == "" {
		return nil
	}
	for i, one := range strings.Split(v, ",") {
		name, token, ok := strings.Cut(strings.TrimSpace(one), "=")
		switch {
		case !ok:
			return fmt.Errorf("edge %d: must be NAME=TOKEN, and a comma between two edges", i+1)
		case !codec.ValidEdge(name):
			return fmt.Errorf("edge %d: its name %s", i+1, edgeNames)
		case c.Edges[name] != "":
			return fmt.Errorf("edge %d: it has the name of another", i+1)
		}
		if err := checkEdgeToken(token); err != nil {
			return fmt.Errorf("edge %d: its token %w", i+1, err)
		}
		c.Edges[name] = token
	}
	return nil
}

// edgesObject reads {"NAME": {"token": "TOKEN"}}, the edges of a config file.
func edgesObject(object json.RawMessage) (string, error) {
	fields, err := strictjson.Fields(object)
	if err != nil {
		return "", errors.New(`must be an object like {"ams1": {"token": "..."}}`) // a list, or null
	}
	var edges []string
	for _, f := range fields {
		var edge struct {
			Token string `json:"token"`
		}
		switch {
		case !codec.ValidEdge(f.Name):
			return "", fmt.Errorf("the name of an edge %s, not %.100q", edgeNames, f.Name)
		case f.Again:
			return "", fmt.Errorf("the edge %q is given twice", f.Name)
		case strictjson.Into(f.Value, &edge) != nil || f.Value[0] == 'n':
			return "", fmt.Errorf(`the edge %q must be {"token": "..."} and nothing else`, f.Name)
		}
		if err := checkEdgeToken(edge.Token); err != nil {
			return "", fmt.Errorf("the token of the edge %q %w", f.Name, err)
		}
		edges = append(edges, f.Name+"="+edge.Token)
	}
	return strings.Join(edges, ","), nil
}

// checkEdgeToken says what a token of an edge must be.
func checkEdgeToken(token string) error {
	switch {
	case token == "":
		return errors.New("must not be empty (" + makeToken + " makes one)")
	case strings.Contains(token, ","):
		return errors.New("must not hold a comma, which stands between two edges")
	}
	return command.CheckRelayToken(token)
}

// validateEdges refuses combinations of an edge's and a hub's flags that cannot work, and tokens that
// would give an edge more than its link.
func (c *Config) validateEdges() error {
	var missing []string
	for _, one := range []struct{ flag, value string }{{"--edge-name", c.EdgeName}, {"--hub-address", c.HubAddress}, {"--hub-token", c.HubToken}} {
		if one.value == "" {
			missing = append(missing, one.flag)
		}
	}
	isEdge := len(missing) < 3
	switch _, err := hubTLS(c); {
	case isEdge && len(missing) > 0:
		return fmt.Errorf("--edge-name, --hub-address and --hub-token belong together: give all three for an edge, or none; missing: %s", strings.Join(missing, ", "))
	case !isEdge && c.HubCA != "":
		return errors.New("--hub-ca is given without --hub-address")
	case err != nil:
		return err
	case isEdge && c.HubListenAddress != "":
		return errors.New("--hub-listen-address: an edge cannot be a hub too, because the events of its edges would reach its own hub as its own: run the hub as a second pulse, or leave out --edge-name, --hub-address and --hub-token")
	case len(c.Edges) > 0 && c.HubListenAddress == "":
		return errors.New("--edges is given without --hub-listen-address, at which they would connect")
	case c.HubListenAddress != "" && !strings.HasSuffix(c.HubListenAddress, ":0") && slices.Contains([]string{c.HTTPAddress, c.RelayAddress, c.NATSAddress}, c.HubListenAddress):
		return errors.New("--hub-listen-address must differ from --http-listen-address, --server-listen-address and --nats-listen-address")
	}
	if isEdge {
		return c.checkOnlyToken("--hub-token: it is", c.HubToken)
	}
	names := make(map[string]string, len(c.Edges)) // by token
	for _, name := range slices.Sorted(maps.Keys(c.Edges)) {
		token := c.Edges[name]
		if other := names[token]; other != "" {
			return fmt.Errorf("--edges: %s and %s have the same token, so each could take the other's place: choose another for one (%s makes one)", other, name, makeToken)
		}
		names[token] = name
		if err := c.checkOnlyToken("--edges: the token of "+name+" is", token); err != nil {
			return err
		}
		if c.HubListenAddress != "" && !isLoopback(c.HubListenAddress) {
			if err := checkStrength("--edges: the token of "+name, token, c.HubListenAddress); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOnlyToken fails if the token of a link is also one of this Pulse's own: the other end of the
// link would know it.
func (c *Config) checkOnlyToken(what, token string) error {
	for _, own := range []struct{ flag, token string }{{"--token", c.Token}, {"--read-token", c.ReadToken}, {"--relay-token", c.RelayToken}} {
		if token == own.token {
			return fmt.Errorf("%s the %s of this pulse, which the other end of the link must not have: choose another (%s makes one)", what, own.flag, makeToken)
		}
	}
	return nil
}

// edgeWarnings returns warnings about what is allowed for edges but unwise.
func (c *Config) edgeWarnings() (list []string) {
	if c.HubListenAddress == "" {
		return nil
	}
	if len(c.Edges) == 0 {
		list = append(list, "--edges: there are none, so no edge can connect to --hub-listen-address: give each a name and a token; SIGHUP takes them over")
	}
	if isLoopback(c.HubListenAddress) {
		return list
	}
	for _, name := range slices.Sorted(maps.Keys(c.Edges)) {
		if isShort(c.Edges[name]) {
			list = append(list, fmt.Sprintf("--edges: the token of %s has fewer than %d characters, and others can reach %s: %s makes a good one", name, goodToken, c.HubListenAddress, makeToken))
		}
	}
	return list
}

// maskEdges returns the edges as a config file has them, with their tokens masked.
func maskEdges(edges map[string]string) map[string]any {
	shown := make(map[string]any, len(edges))
	for name := range edges {
		shown[name] = map[string]string{"token": masked}
	}
	return shown
}
