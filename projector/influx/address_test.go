package influx_test

import (
	"encoding/pem"
	"strings"
	"testing"

	"github.com/nanopack/pulse/projector/influx"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestParseAddress(t *testing.T) {
	for _, address := range []string{
		"http://127.0.0.1:8086", "https://influx.example.com", "http://[::1]:8086", "http://user:pass@host:8086/influx", "https://user@host",
	} {
		u, err := influx.ParseAddress(address)
		if err != nil || u.String() != address {
			t.Errorf("%s: %v, %v", address, u, err)
		}
	}
	for address, why := range map[string]string{
		"":                            "empty",
		"127.0.0.1:8086":              "not a URL",
		"localhost:8086":              "http://",
		"influx":                      "http://",
		"udp://host:8089":             "http://",
		"http://":                     "host is missing",
		"http://:8086":                "host is missing",
		"http://host:0":               "port",
		"http://host:99999":           "port",
		"http://host:port":            "not a URL",
		"http://host:8086/?db=x":      "after the path",
		"http://host:8086#x":          "after the path",
		"ftp://user:secret@host":      "http://",
		"http://user:secret@host:0/x": "port",
		"http://user:sec ret@ho st":   "not a URL",
		"user:secret@host:8086":       "",
		"http//user:secret@host":      "",
	} {
		_, err := influx.ParseAddress(address)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "expected http://host:8086") {
			t.Errorf("%q: error %v, expected %q", address, err, why)
		}
		if strings.Contains(address, "sec") && err != nil && strings.Contains(err.Error(), "ret@") {
			t.Errorf("%q: the error repeats the password: %v", address, err)
		}
	}
}
