package command

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestReleaseOfABuild(t *testing.T) {
	for _, c := range []struct{ set, module, want string }{
		{"v0.3.0-5-gabcdef0", "v0.3.1-0.20261127175137-20f6dd2ab12c", "v0.3.0-5-gabcdef0"}, // make build
		{"", "v0.3.0", "v0.3.0"},                            // go install ...@v0.3.0, go build of the tag
		{"", "v0.3.0+dirty", "v0.3.0+dirty"},                // go build of the tag, with changes
		{"", "v0.4.0-rc.1", "v0.4.0-rc.1"},                  // also a tag
		{"", "v0.3.1-0.20261127175137-20f6dd2ab12c", "dev"}, // commits after a tag
		{"", "v0.0.0-20261127175137-20f6dd2ab12c+dirty", "dev"},
		{"", "(devel)", "dev"}, // go run, go test, no repository
		{"", "", "dev"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.module}}
		if got := releaseOf(c.set, info); got != c.want {
			t.Errorf("%q set, module %q: got %q, want %q", c.set, c.module, got, c.want)
		}
	}
}

func TestCommitOfABuild(t *testing.T) {
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "20f6dd2ab12c34d5"}}}
	if got := commitOf(info); got != "20f6dd2ab12c" {
		t.Errorf("got %q", got)
	}
	info = &debug.BuildInfo{Main: debug.Module{Version: "v0.3.1-0.20261127175137-20f6dd2ab12c"}}
	if got := commitOf(info); got != "20f6dd2ab12c" {
		t.Errorf("after go install of a commit: got %q", got)
	}
	if got := commitOf(&debug.BuildInfo{}); got != "unknown" {
		t.Errorf("without a repository: got %q", got)
	}
	if v := Version(""); strings.HasPrefix(v, " ") {
		t.Errorf("no release in %q", v)
	}
}
