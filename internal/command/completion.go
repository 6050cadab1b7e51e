package command

import (
	"context"
	"fmt"
	"io"
	"strings"
)

const completionHelp = `Write a script with which a shell completes the commands and flags of %s: SHELL is bash, zsh or fish.

  bash  source <(%[1]s completion bash), or into /usr/share/bash-completion/completions/%[1]s
  zsh   into a file _%[1]s in a directory of $fpath
  fish  into ~/.config/fish/completions/%[1]s.fish`

// runCompletion is `pulse completion SHELL`.
func (p *Program) runCompletion(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := New(p.Name+" completion", fmt.Sprintf(completionHelp, p.Name), "", stdout, stderr)
	c.Argument = "SHELL"
	if done, code := c.Begin(args); done {
		return code
	}
	scripts := map[string]func(name string, root Page, commands []Page) string{
		"bash": bashScript, "zsh": zshScript, "fish": fishScript,
	}
	script, known := scripts[c.Arg(0)]
	if !known {
		return c.Misused(fmt.Errorf("there is no script for %q: SHELL is bash, zsh or fish", c.Arg(0)))
	}
	root, commands := p.pages(ctx)
	return c.Write(func(w io.Writer) error {
		_, err := io.WriteString(w, script(p.Name, root, commands))
		return err
	})
}

// words returns the words after the name of the program by which a page's command is called.
func (p Page) words() []string { return strings.Fields(p.Name)[1:] }

// all returns the flags of a page and those of the server.
func (p Page) all() []Option { return append(p.Flags[:len(p.Flags):len(p.Flags)], p.Server...) }

// verbs returns the pages of the verbs of a command.
func verbs(of Page, commands []Page) (list []Page) {
	for _, c := range commands {
		if strings.HasPrefix(c.Name, of.Name+" ") {
			list = append(list, c)
		}
	}
	return list
}

// cases returns the cases of a shell's case command, one for each page: verbs before their
// commands, and the program itself last. The word that is tested is the command, a blank and the
// verb; a shell must not give the word that it completes.
func cases(root Page, commands []Page, body func(p Page, next []Page) string) string {
	var b strings.Builder
	write := func(p Page, pattern string, next []Page) {
		fmt.Fprintf(&b, "    %s)\n%s        ;;\n", pattern, body(p, next))
	}
	for _, c := range commands {
		if words := c.words(); len(words) == 2 {
			write(c, fmt.Sprintf("%q", words[0]+" "+words[1]), nil)
		}
	}
	for _, c := range commands {
		if words := c.words(); len(words) == 1 {
			write(c, fmt.Sprintf(`"%s "*`, words[0]), verbs(c, commands))
		}
	}
	write(root, "*", nil)
	return b.String()
}

// function returns the name of the shell function that completes a program.
func function(name string) string { return "_" + strings.ReplaceAll(name, "-", "_") }

func bashScript(name string, root Page, commands []Page) string {
	body := func(p Page, next []Page) string {
		var flags, values, words []string
		for _, o := range p.all() {
			flags = append(flags, "--"+o.Long)
			if o.Kind != "" {
				values = append(values, "--"+o.Long)
				if o.Short != "" {
					values = append(values, "-"+o.Short)
				}
			}
		}
		for _, v := range next {
			words = append(words, v.words()[1])
		}
		for _, s := range p.Commands {
			words = append(words, s.Name)
		}
		return fmt.Sprintf("        flags=%q\n        values=%q\n        commands=%q\n",
			strings.Join(append(flags, "--help"), " "), strings.Join(values, " "), strings.Join(words, " "))
	}
	return fmt.Sprintf(`# bash completion for %[1]s, made by %[1]s completion bash

%[2]s() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} key= flags values commands
    if [[ $COMP_CWORD -gt 1 ]]; then key="${COMP_WORDS[1]} "; fi
    if [[ $COMP_CWORD -gt 2 ]]; then key+=${COMP_WORDS[2]}; fi
    case "$key" in
%[3]s    esac
    if [[ " $values " == *" $prev "* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
    elif [[ -n $commands && ( $COMP_CWORD -eq 1 || -n ${key%% } && $COMP_CWORD -eq 2 ) ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

complete -o filenames -F %[2]s %[1]s
`, name, function(name), cases(root, commands, body))
}

// quoted returns text between single quotes, for zsh.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func zshScript(name string, root Page, commands []Page) string {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`)
	body := func(p Page, next []Page) string {
		var b strings.Builder
		b.WriteString("        commands=(")
		for _, v := range next {
			b.WriteString(" " + quoted(v.words()[1]))
		}
		for _, s := range p.Commands {
			b.WriteString("\n            " + quoted(s.Name+":"+escape.Replace(s.Help)))
		}
		b.WriteString(")\n        flags=(")
		for _, o := range p.all() {
			names, value := []string{"--" + o.Long}, ""
			if o.Short != "" {
				names = append(names, "-"+o.Short)
			}
			if o.Kind != "" {
				value = ":" + o.Kind + ":_files"
			}
			for _, n := range names {
				b.WriteString("\n            " + quoted(n+"["+escape.Replace(o.Help)+"]"+value))
			}
		}
		b.WriteString(")\n")
		return b.String()
	}
	return fmt.Sprintf(`#compdef %[1]s
# zsh completion for %[1]s, made by %[1]s completion zsh

%[2]s() {
    local key=
    local -a commands flags
    (( CURRENT > 2 )) && key="${words[2]} "
    (( CURRENT > 3 )) && key+=${words[3]}
    case "$key" in
%[3]s    esac
    if (( ${#commands} )) && [[ ${words[CURRENT]} != -* ]] && (( CURRENT == 2 || (CURRENT == 3 && ${#key} > 1) )); then
        _describe command commands
        return
    fi
    _arguments -S $flags '*:file:_files'
}

if [[ $funcstack[1] == %[2]s ]]; then
    %[2]s "$@"
else
    compdef %[2]s %[1]s
fi
`, name, function(name), cases(root, commands, body))
}

func fishScript(name string, root Page, commands []Page) string {
	escape := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %[1]s, made by %[1]s completion fish\n\n", name)
	flags := func(condition string, all []Option) {
		for _, o := range all {
			fmt.Fprintf(&b, "complete -c %s -n '%s' -l %s", name, condition, o.Long)
			if o.Short != "" {
				b.WriteString(" -s " + o.Short)
			}
			if o.Kind != "" {
				b.WriteString(" -r")
			}
			fmt.Fprintf(&b, " -d '%s'\n", escape.Replace(o.Help))
		}
	}
	for _, s := range root.Commands {
		fmt.Fprintf(&b, "complete -c %s -f -n __fish_use_subcommand -a %s -d '%s'\n", name, s.Name, escape.Replace(s.Help))
	}
	flags("__fish_use_subcommand", root.all())
	for _, c := range commands {
		words := c.words()
		condition := "__fish_seen_subcommand_from " + words[0]
		if len(words) == 2 {
			condition += "; and __fish_seen_subcommand_from " + words[1]
		}
		for _, v := range verbs(c, commands) {
			condition += "; and not __fish_seen_subcommand_from " + v.words()[1]
		}
		for _, v := range verbs(c, commands) {
			fmt.Fprintf(&b, "complete -c %s -n '%s' -a %s\n", name, condition, v.words()[1])
		}
		flags(condition, c.all())
	}
	return b.String()
}
