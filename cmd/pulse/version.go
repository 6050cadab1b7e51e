package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the Makefile from the newest tag.
var release = "0.3.0-dev"

// version names the release, the commit that it was built from and the Go
// that built it.
func version() string {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return fmt.Sprintf("%s (commit %s, %s %s/%s)", release, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
