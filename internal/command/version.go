package command

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
)

// pseudo matches the part of a module version that the go command makes of a commit without a tag.
var pseudo = regexp.MustCompile(`[-.]\d{14}-([0-9a-f]{12})`)

// commit is set by the build of packages, which keeps the state of git out of a binary.
var commit string

// Version returns the release, the commit that it was built from and the Go version that built it.
// release is what the Makefile sets from the newest tag. It is empty after plain go build and go
// install.
func Version(release string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return fmt.Sprintf("%s (commit %s, %s %s/%s)", releaseOf(release, info), commitOf(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// releaseOf returns the release of a build: what the Makefile set, or else the tag of the module,
// or "dev" where the go command knows no tag.
func releaseOf(set string, info *debug.BuildInfo) string {
	tag := info.Main.Version
	switch {
	case set != "":
		return set
	case tag == "" || tag == "(devel)" || pseudo.MatchString(tag):
		return "dev"
	default:
		return tag
	}
}

// commitOf returns the first twelve digits of the commit of a build, or "unknown".
func commitOf(info *debug.BuildInfo) string {
	if commit != "" {
		return commit
	}
	if revision := setting(info, "vcs.revision"); revision != "" {
		return revision[:min(12, len(revision))]
	}
	if match := pseudo.FindStringSubmatch(info.Main.Version); match != nil {
		return match[1] // go install of a commit
	}
	return "unknown"
}

// setting returns a setting of a build, or "".
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
