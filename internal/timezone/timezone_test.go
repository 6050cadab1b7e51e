package timezone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A host's zone is also found by the target of its link if no zones are installed. If the zone
// cannot be found, there is a warning.
func TestTimeZoneOfTheHost(t *testing.T) {
	dir := t.TempDir()
	link := func(target string) string {
		path := filepath.Join(dir, strings.ReplaceAll(target, "/", "_"))
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("no zone"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, want string
		warned     bool
	}{
		{filepath.Join(dir, "none"), "UTC", false},
		{link("/not/there/zoneinfo/Asia/Kolkata"), "IST", false},
		{link("/not/there/zoneinfo/Asia/Kolkatta"), "UTC", true},
		{link("/not/there"), "UTC", true},
		{junk, "UTC", true},
	} {
		z := ofHost(test.path)
		if name, _ := time.Unix(0, 0).In(z.Location).Zone(); name != test.want || (z.Warning != "") != test.warned {
			t.Errorf("%s: %s, warning %q; want %s", test.path, name, z.Warning, test.want)
		}
	}
}
