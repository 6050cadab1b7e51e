package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// imageUser is the user of the image: a number, so that Kubernetes' runAsNonRoot can check it.
const imageUser = 65532

// imageConfig is the config file of the image. A user mounts another one over it, or overrides a
// key with an environment variable.
const imageConfig = `{
  "server": true,
  "data-dir": "/var/lib/pulse",
  "influx-address": "embedded",
  "http-listen-address": "0.0.0.0:8080",
  "server-listen-address": "0.0.0.0:3000"
}
`

// The media types of the OCI image format.
const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// A layout is an OCI image layout in the making. It is kept in memory.
type layout struct {
	entries []entry
	have    map[string]bool
}

// add adds a blob, once.
func (l *layout) add(mediaType string, content []byte) descriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	if !l.have[sum] {
		l.have[sum] = true
		l.entries = append(l.entries, entry{name: "blobs/sha256/" + sum, mode: 0o644, content: content})
	}
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(content)}
}

// addJSON adds a blob that is a value as JSON.
func (l *layout) addJSON(mediaType string, value any) (descriptor, error) {
	content, err := json.Marshal(value)
	return l.add(mediaType, content), err
}

// image writes the container image for all processors as one OCI archive. index.json names one
// index with the version as its tag, which lists a manifest a processor.
func (b *builder) image(p program, built []binary, extras []extra) error {
	l := &layout{have: make(map[string]bool)}
	var manifests []descriptor
	for _, bin := range built {
		manifest, err := b.addImage(l, p, bin, extras)
		if err != nil {
			return err
		}
		manifest.Platform = &platform{Architecture: bin.arch, OS: bin.os}
		manifests = append(manifests, manifest)
	}
	index, err := l.addJSON(mediaIndex, map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": manifests})
	if err != nil {
		return err
	}
	index.Annotations = map[string]string{"org.opencontainers.image.ref.name": b.revision.fileVersion()}
	top, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []descriptor{index}})
	if err != nil {
		return err
	}
	entries := append([]entry{
		{name: "oci-layout", mode: 0o644, content: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, content: top},
	}, l.entries...)
	var out bytes.Buffer
	if err := writeTar(&out, entries, b.revision.time); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, p.name+"_"+b.revision.fileVersion()+"_oci.tar"), out.Bytes(), 0o644)
}

// addImage adds the image of one processor: one layer with the program, its config file, its data
// dir and the certificates of the known authorities, for receivers of alerts with https.
func (b *builder) addImage(l *layout, p program, bin binary, extras []extra) (descriptor, error) {
	program, err := os.ReadFile(bin.path)
	if err != nil {
		return descriptor{}, err
	}
	entries := []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/pulse/", mode: 0o755},
		{name: "etc/pulse/pulse.json", mode: 0o644, content: []byte(imageConfig)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: authorities()},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/" + p.name, mode: 0o755, content: program},
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/doc/", mode: 0o755},
		{name: "usr/share/doc/" + p.name + "/", mode: 0o755},
		{name: "var/", mode: 0o755},
		{name: "var/lib/", mode: 0o755},
		{name: "var/lib/pulse/", mode: 0o700, uid: imageUser}, // a new volume takes its owner from here
	}
	for _, e := range extras {
		if !e.license {
			continue
		}
		content, err := os.ReadFile(e.source)
		if err != nil {
			return descriptor{}, err
		}
		entries = append(entries, entry{name: strings.TrimPrefix(e.path, "/"), mode: 0o644, content: content})
	}
	var files, layer bytes.Buffer
	if err := writeTar(&files, entries, b.revision.time); err != nil {
		return descriptor{}, err
	}
	compressed := gzip.NewWriter(&layer)
	if _, err := compressed.Write(files.Bytes()); err != nil {
		return descriptor{}, err
	}
	if err := compressed.Close(); err != nil {
		return descriptor{}, err
	}
	blob := l.add(mediaLayer, layer.Bytes())
	created := b.revision.time.Format(time.RFC3339)
	config, err := l.addJSON(mediaConfig, map[string]any{
		"created": created, "architecture": bin.arch, "os": bin.os,
		"config": map[string]any{
			"User":         fmt.Sprintf("%d:%d", imageUser, imageUser),
			"Entrypoint":   []string{"/usr/bin/" + p.name},
			"Cmd":          []string{"--config-file", "/etc/pulse/pulse.json"},
			"Env":          []string{"PATH=/usr/bin"},
			"WorkingDir":   "/var/lib/pulse",
			"Volumes":      map[string]any{"/var/lib/pulse": struct{}{}},
			"ExposedPorts": map[string]any{"8080/tcp": struct{}{}, "3000/tcp": struct{}{}},
			"StopSignal":   "SIGTERM",
			"Labels":       b.labels(p, created),
			// OCI does not know this field. Docker, and Podman with Docker's format, read it.
			"Healthcheck": map[string]any{
				"Test":     []string{"CMD", "/usr/bin/" + p.name, "status", "--ready"},
				"Interval": 30 * time.Second, "Timeout": 15 * time.Second,
				"StartPeriod": 15 * time.Minute, // a large journal after a kill takes its time
				"Retries":     3,
			},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(files.Bytes()))}},
		"history": []map[string]any{{"created": created, "created_by": "make packages"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	return l.addJSON(mediaManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []descriptor{blob},
		"annotations": b.labels(p, created),
	})
}

// labels returns what registries show.
func (b *builder) labels(p program, created string) map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       p.name,
		"org.opencontainers.image.description": p.summary,
		"org.opencontainers.image.url":         "https://github.com/nanopack/pulse",
		"org.opencontainers.image.source":      "https://github.com/nanopack/pulse",
		"org.opencontainers.image.licenses":    "MPL-2.0",
		"org.opencontainers.image.version":     b.revision.fileVersion(),
		"org.opencontainers.image.created":     created,
	}
	if b.revision.commit != "" {
		labels["org.opencontainers.image.revision"] = b.revision.commit
	}
	return labels
}

// authorities returns the certificates of the known authorities, as PEM: Mozilla's list, of the
// version that go.mod names, and not that of the machine. Authorities that are trusted only for
// certificates of before a date are left out.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		// Writing to memory does not fail.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return out.Bytes()
}
