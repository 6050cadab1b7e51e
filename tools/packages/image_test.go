package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// An unpacked is the image of one processor.
type unpacked struct {
	config struct {
		Architecture string
		Config       struct {
			User            string
			Entrypoint, Cmd []string
			Env             []string
			Volumes         map[string]struct{}
			ExposedPorts    map[string]struct{}
			Healthcheck     struct{ Test []string }
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	layer []byte // a tar archive
}

// readImage reads an OCI archive as a registry's client does: each blob by its digest.
func readImage(t *testing.T, path, arch string) unpacked {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blobs := make(map[string][]byte)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if blobs[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if layout := string(blobs["oci-layout"]); layout != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", layout)
	}
	blob := func(d descriptor) []byte {
		t.Helper()
		content := blobs["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if len(content) != d.Size || fmt.Sprintf("sha256:%x", sha256.Sum256(content)) != d.Digest {
			t.Fatalf("%s, of %d bytes, has %d bytes and another digest", d.Digest, d.Size, len(content))
		}
		return content
	}
	var top, index, manifest struct {
		Manifests []descriptor
		Config    descriptor
		Layers    []descriptor
	}
	decode := func(content []byte, v any) {
		t.Helper()
		if err := json.Unmarshal(content, v); err != nil {
			t.Fatal(err)
		}
	}
	decode(blobs["index.json"], &top)
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] == "" {
		t.Fatalf("index.json names %+v: want one image with a tag", top.Manifests)
	}
	decode(blob(top.Manifests[0]), &index)
	i := slices.IndexFunc(index.Manifests, func(d descriptor) bool { return d.Platform.Architecture == arch && d.Platform.OS == "linux" })
	if i < 0 {
		t.Fatalf("there is no image for %s", arch)
	}
	decode(blob(index.Manifests[i]), &manifest)
	var u unpacked
	decode(blob(manifest.Config), &u.config)
	if len(manifest.Layers) != 1 || len(u.config.Rootfs.DiffIDs) != 1 {
		t.Fatalf("the image has %d layers and %d diff ids, want one of each", len(manifest.Layers), len(u.config.Rootfs.DiffIDs))
	}
	z, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	if u.layer, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	if id := fmt.Sprintf("sha256:%x", sha256.Sum256(u.layer)); id != u.config.Rootfs.DiffIDs[0] {
		t.Errorf("the layer's diff id is %s, and it says %s", id, u.config.Rootfs.DiffIDs[0])
	}
	return u
}

// unpack writes the files of a layer with their owners and modes.
func (u unpacked) unpack(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(u.layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(path, 0o755)
		} else {
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		}
		if err == nil {
			err = os.Chown(path, h.Uid, h.Gid)
		}
		if err == nil {
			err = os.Chmod(path, h.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestImage reads the container image, unpacks it, and runs it as a container runtime would.
func TestImage(t *testing.T) {
	t.Parallel()
	u := readImage(t, find(t, packages(t, version1), "pulse_*_oci.tar"), runtime.GOARCH)
	c := u.config.Config
	if u.config.Architecture != runtime.GOARCH || c.User != "65532:65532" || len(c.Volumes) != 1 || len(c.ExposedPorts) != 2 {
		t.Errorf("the image's config is %+v", u.config)
	}
	s := system{t, u.unpack(t)}
	if err := os.Mkdir(s.path("proc"), 0o755); err != nil { // as a container runtime does
		t.Fatal(err)
	}
	if n := strings.Count(s.read("/etc/ssl/certs/ca-certificates.crt"), "BEGIN CERTIFICATE"); n < 100 {
		t.Errorf("the image has %d authorities", n)
	}
	command := slices.Concat(c.Entrypoint, c.Cmd)

	// Reachable by all, it wants a token.
	out, err := s.inside(c.User, command...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--token") {
		t.Errorf("without a token: %v, %s", err, out)
	}
	const token = "PULSE_TOKEN=0123456789abcdef0123"
	api, _ := listening(t, s.start(t, c.User, command, append([]string{token}, anyPorts...)...))
	test := c.Healthcheck.Test
	if len(test) < 2 || test[0] != "CMD" {
		t.Fatalf("the health check is %q", test)
	}
	check := func(api string) error {
		cmd := s.inside(c.User, test[1:]...)
		cmd.Env = append(cmd.Env, "PULSE_API="+api) // without the token: it may be in a config file
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := check(api); err != nil {
		t.Errorf("the health check of a server that runs: %v", err)
	}
	if err := check("http://127.0.0.1:1"); err == nil {
		t.Error("the health check passes without a server")
	}
}
