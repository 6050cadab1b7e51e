package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the two formats register themselves
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// scripts are what dpkg and rpm run, as templates over a scriptData. setup.sh is a part of the
// others.
//
//go:embed scripts
var scripts embed.FS

// scriptData is what the scripts are made of.
type scriptData struct {
	Name, Account, Data, Config, Question string
}

// An extra is a file that belongs to a program besides its binary.
type extra struct {
	source string // a file
	path   string // where it is installed, in a deb or rpm
	name   string // its name in an archive; "" if archives are without it
	format string // "deb" or "rpm" if only that has it

	license bool // it goes along with every copy of the program
}

// linuxPackages writes the deb and the rpm.
func (b *builder) linuxPackages(p program, bin binary, extras []extra) error {
	dir := filepath.Join(b.work, bin.String(), p.name+".packages")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data := scriptData{Name: p.name, Account: p.account, Data: p.data, Config: p.config(), Question: p.question}
	script := func(name string) string {
		path := filepath.Join(dir, name)
		if err := writeScript(path, name, data); err != nil {
			panic(err) // a template that is wrong, which every test sees
		}
		return path
	}
	unit := filepath.Join(dir, p.name+".service")
	if err := b.writeUnit(unit, p); err != nil {
		return err
	}
	debian := nfpm.Overridables{
		Depends: []string{"passwd", "debconf (>= 0.5) | debconf-2.0"},
		Scripts: nfpm.Scripts{PostInstall: script("deb.postinst"), PreRemove: script("deb.prerm"), PostRemove: script("deb.postrm")},
		Deb:     nfpm.Deb{Scripts: nfpm.DebScripts{Templates: script("deb.templates")}},
	}
	red := nfpm.Overridables{
		Depends: []string{"/usr/sbin/useradd", "/usr/bin/getent"},
		Scripts: nfpm.Scripts{PostInstall: script("rpm.post"), PreRemove: script("rpm.preun"), PostRemove: script("rpm.postun")},
		RPM:     nfpm.RPM{BuildHost: "localhost", Summary: p.summary},
	}
	for format, parts := range map[string]nfpm.Overridables{"deb": debian, "rpm": red} {
		parts.Contents = files.Contents{
			content(bin.path, "/usr/bin/"+p.name, 0o755),
			content(unit, "/usr/lib/systemd/system/"+p.name+".service", 0o644),
		}
		for _, e := range extras {
			if e.path != "" && (e.format == "" || e.format == format) {
				parts.Contents = append(parts.Contents, content(e.source, e.path, 0o644))
			}
		}
		if err := b.linuxPackage(format, p, bin, parts); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

func (b *builder) linuxPackage(format string, p program, bin binary, parts nfpm.Overridables) error {
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	parts.Umask = 0o022
	info := nfpm.WithDefaults(&nfpm.Info{
		Overridables: parts,
		Name:         p.name, Arch: bin.arch, Platform: bin.os,
		Version: b.revision.packageVersion(), VersionSchema: "none",
		Section: "net", Priority: "optional",
		Maintainer: "https://github.com/nanopack/pulse", Vendor: "nanopack", Homepage: "https://github.com/nanopack/pulse",
		License: "MPL-2.0", Description: p.summary + "\n" + p.long,
		DisableGlobbing: true, MTime: b.revision.time,
	})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := packager.Package(info, &out); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, packager.ConventionalFileName(info)), out.Bytes(), 0o644)
}

func content(source, path string, mode os.FileMode) *files.Content {
	return &files.Content{Source: source, Destination: path, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode}}
}

func writeScript(path, name string, data scriptData) error {
	t, err := template.New("").Option("missingkey=error").ParseFS(scripts, "scripts/*")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.ExecuteTemplate(&text, name, data); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o755)
}

// writeUnit writes the unit of docs/systemd as a package has it: with the program where packages
// install programs.
func (b *builder) writeUnit(path string, p program) error {
	text, err := os.ReadFile(filepath.Join(b.root, "docs/systemd", p.name+".service"))
	if err != nil {
		return err
	}
	const manual = "ExecStart=/usr/local/bin/"
	if !strings.Contains(string(text), manual) {
		return fmt.Errorf("the unit of %s does not start a program of /usr/local/bin", p.name)
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(string(text), manual, "ExecStart=/usr/bin/")), 0o644)
}
