package command

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// aProgram is a program with a command, a verb and texts that mean something to a shell and to
// roff.
func aProgram() *Program {
	p := &Program{Name: "a-program", Summary: "try things", Release: "v1.2.3", Description: "It's a \\ program.\n\n  .TH evil\n.SH evil", Hint: "none"}
	sub := func(name, verb string) RunFunc {
		return func(_ context.Context, args []string, stdout, stderr io.Writer) int {
			called, flagName := name, "of-"+name
			if rest, ok := CutVerb(args, verb); ok && verb != "" {
				called, flagName, args = name+" "+verb, "of-"+verb, rest
			}
			c := New(p.Name+" "+called, "Do it's `thing`: [$x].", "A", stdout, stderr)
			c.String(flagName, `it's "$HOME"`, "What's `text` of [a]: $(b)")
			c.Bool("switch", false, "A switch")
			if done, code := c.Begin(args); done {
				return code
			}
			return ExitOK
		}
	}
	p.Commands = []Subcommand{{Name: "list", Help: "list things", Run: sub("list", "forget"), Verbs: []string{"forget"}}, {Name: "stop", Help: "it's", Run: sub("stop", "")}}
	p.Run = func(_ context.Context, args []string, stdout, stderr io.Writer) int {
		Page{Name: p.Name, Commands: p.All(), Flags: []Option{{Long: "level", Short: "l", Kind: "string", Default: "INFO", Help: "Level"}, {Long: "insecure", Help: "No TLS"}}, Env: "A", File: true}.Show(stdout)
		return ExitOK
	}
	return p
}

func output(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := aProgram().Start(t.Context(), args, &stdout, &stderr); code != ExitOK || stderr.Len() > 0 {
		t.Fatalf("%q: exit %d, %s", args, code, stderr.String())
	}
	return stdout.String()
}

// TestBashCompletes lets bash complete words of a program.
func TestBashCompletes(t *testing.T) {
	script := output(t, "completion", "bash")
	for line, want := range map[string]string{
		"":                         "list stop completion help man version",
		"li":                       "list",
		"-":                        "--level --insecure --help",
		"list ":                    "forget",
		"list --o":                 "--of-list",
		"list forget -":            "--of-forget --switch --help",
		"list forget x --switch -": "--of-forget --switch --help",
		"stop -":                   "--of-stop --switch --help",
		"stop --of-stop a-f":       "a-file",
		"--level a-f":              "a-file",
		"-l a-f":                   "a-file",
		"stop a-f":                 "a-file",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a-file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		words := strings.Split("a-program "+line, " ")
		bash := exec.Command("bash", "-u", "-c", script+`
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _a_program; echo "${COMPREPLY[*]}"`)
		bash.Args = append(append(bash.Args, "bash"), words...)
		bash.Dir = dir
		out, err := bash.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%q: %v, it offers %s, want %s", line, err, got, want)
		}
	}
}

// TestCompletionScriptsAreScripts has the shells that are installed read their scripts.
func TestCompletionScriptsAreScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := output(t, "completion", shell)
		for _, want := range []string{"list", "forget", "of-forget", "of-list", "level"} {
			if !strings.Contains(script, want) {
				t.Errorf("%s: no %s in %s", shell, want, script)
			}
		}
		if _, err := exec.LookPath(shell); err != nil && shell != "bash" {
			continue // bash is there wherever the tests run
		}
		check := exec.Command(shell, "-n", "/dev/stdin")
		check.Stdin = strings.NewReader(script)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}

func TestUnknownShell(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := aProgram().Start(t.Context(), []string{"completion", "tcsh"}, &stdout, &stderr); code != ExitUsage || !strings.Contains(stderr.String(), "bash, zsh or fish") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}
