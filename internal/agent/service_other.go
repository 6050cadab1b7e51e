//go:build !windows

package agent

import "github.com/nanopack/pulse/internal/command"

// underServiceManager runs the program if a service control manager of Windows has started the
// process.
func underServiceManager(command.RunFunc) (code int, is bool) { return 0, false }
