package nearest

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	stats := []string{"cpu_used", "cpu_idle", "ram_used", "ram", "disk_used", ""}
	for name, want := range map[string]string{
		"cpu_usde":               "cpu_used", // exchanged
		"cpu_use":                "cpu_used", // missing
		"CPU_USED":               "cpu_used",
		"rma":                    "ram",
		"xyz":                    "",
		"":                       "",
		"disc_used":              "disk_used",
		"temperature":            "",
		strings.Repeat("a", 200): "",
	} {
		if got := Name(name, stats); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
	if got := Name("INFOO", []string{"TRACE", "DEBUG", "INFO"}); got != "INFO" {
		t.Errorf("got %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
