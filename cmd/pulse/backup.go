package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// writeBackup writes an archive of the data dir while the server goes on. A server that starts on
// the restored data dir behaves like one that was killed at the moment of the backup.
//
// The order of the files makes that true. pulse.db comes first. Its positions are older than
// everything else, so what they promise is in InfluxDB and in the journal. The journal comes last.
// It has every event that a row in InfluxDB was made from, so a window that is counted again has
// all of its readings.
func (a *App) writeBackup(ctx context.Context, w io.Writer) error {
	archive, err := newArchiveWriter(w, time.Now())
	if err != nil {
		return err
	}
	if err := a.backUp(ctx, archive); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return archive.finish()
}

func (a *App) backUp(ctx context.Context, archive *archiveWriter) error {
	if err := a.state.Backup(archive.add); err != nil {
		return err
	}
	if store, ok := a.store.(*embedded.Store); ok {
		archive.manifest.Influx = true
		if err := store.Backup(ctx, archive.below("influx")); err != nil {
			return err
		}
	}
	last, err := a.journal.Backup(ctx, archive.below("journal"))
	if err != nil {
		return err
	}
	// Events that retention dropped during the backup are not counted, whether the archive has them
	// or not.
	state, err := a.journal.State(ctx)
	archive.manifest.FirstSequence, archive.manifest.LastSequence = state.FirstSeq, last
	return err
}

const backupHelp = `Write a backup of a server's data dir into a file, while the server goes on: the journal,
registrations, overrides, alerts, and InfluxDB's files if that is embedded. A certificate
that Pulse made for itself is not in it. - writes to standard output.`

// runBackup has a running server write a backup. Where no server answers and the data dir is given,
// it writes the backup itself.
func runBackup(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("backup", backupHelp, "PULSE", stdout, stderr)
	c.Argument = "FILE"
	flags := clientFlagsOf(c)
	force := c.Bool("force", false, "Replace FILE if it exists")
	takes(c, "config-file", "data-dir", "influx-address", "log-level")
	if done, code := c.Begin(args); done {
		return code
	}
	var config *Config // of a backup without a server
	if c.Given("data-dir") || c.Given("config-file") {
		var err error
		if config, err = serverConfig(c); err != nil {
			return c.Misused(err)
		}
		if !c.Given("token") {
			*flags.token = config.Token
		}
	}
	client, err := flags.client()
	if err != nil {
		return c.Misused(err)
	}
	begin := time.Now()
	source := func(w io.Writer) error {
		err := client.download(ctx, "/backup", w)
		if !noServer(err) {
			return err
		}
		if config == nil {
			return fmt.Errorf("no server answers at %s; to back up without one, give its --data-dir, and --influx-address or --config-file as it has them", client.base)
		}
		fmt.Fprintf(stderr, "no server answers at %s: backing up %s\n", client.base, config.DataDir)
		return backUpOffline(ctx, config, w, stderr)
	}
	if c.Arg(0) == "-" {
		m, err := checked(stdout, source)
		if err != nil {
			return c.Failed(err)
		}
		fmt.Fprintln(stderr, "pulse backup:", m.summary(time.Since(begin)))
		return command.ExitOK
	}
	m, err := backUpInto(c.Arg(0), *force, source)
	if err != nil {
		return c.Failed(err)
	}
	return c.Write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s\n", c.Arg(0), m.summary(time.Since(begin)))
		return err
	})
}

// summary describes what is in a backup.
func (m *manifest) summary(took time.Duration) string {
	what := "without InfluxDB, which is elsewhere"
	if m.Influx {
		what = "with InfluxDB"
	}
	return fmt.Sprintf("the journal with events %s to %s, %s, %d files with %s bytes; %s",
		human.Thousands(m.FirstSequence), human.Thousands(m.LastSequence), what, len(m.Files), human.Thousands(uint64(m.bytes())), human.Seconds(took.Seconds()))
}

// backUpInto writes a backup to FILE.partial and renames the file when the backup is whole and on
// the disk.
func backUpInto(file string, force bool, source func(io.Writer) error) (_ *manifest, err error) {
	if _, err := os.Lstat(file); err == nil && !force {
		return nil, fmt.Errorf("%s exists: give another name, or --force to replace it", file)
	}
	partial := file + ".partial"
	f, err := createLocked(partial)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(partial))
		}
	}()
	m, err := checked(f, source)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = publish(partial, file, force)
	}
	if err = errors.Join(err, f.Close()); err != nil { // closed last: the lock is held until the name is gone
		return nil, err
	}
	return m, fsyncDir(filepath.Dir(file))
}

// createLocked makes a file, or empties one that a killed backup left. It fails while another
// backup writes the file.
func createLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: another backup is being written there: %w", path, err), f.Close())
	}
	have, err := f.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = os.Lstat(path); err == nil && !os.SameFile(have, named) {
			err = fmt.Errorf("%s: another backup was written there just now", path)
		}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// publish gives a finished backup its name. Without force it fails if a file of that name was made
// in the meantime.
func publish(partial, file string, force bool) error {
	if force {
		return os.Rename(partial, file)
	}
	err := os.Link(partial, file)
	switch {
	case err == nil:
		return os.Remove(partial)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s was made by somebody else meanwhile: give another name, or --force to replace it", file)
	}
	return os.Rename(partial, file) // a file system without links
}

// checked has source write a backup to w, and reads the backup at the same time. A backup that is
// not whole is an error.
func checked(w io.Writer, source func(io.Writer) error) (*manifest, error) {
	read, write := io.Pipe()
	type result struct {
		m   *manifest
		err error
	}
	reading := make(chan result, 1)
	go func() {
		m, err := readArchive(read, func(_ string, _ int64, content io.Reader) error {
			_, err := io.Copy(io.Discard, content)
			return err
		})
		read.CloseWithError(cmp.Or(err, io.EOF))
		reading <- result{m, err}
	}()
	err := source(io.MultiWriter(w, write))
	write.CloseWithError(err)
	r := <-reading
	if err != nil {
		return nil, err
	}
	return r.m, r.err
}

// backUpOffline writes a backup without a server.
func backUpOffline(ctx context.Context, config *Config, w, logs io.Writer) error {
	if _, err := os.Stat(config.DataDir); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	// A backup drops nothing and sets nothing aside, whatever the limits of its server are. The
	// next start of the server brings the limits back.
	unlimited := *config
	unlimited.JournalRetention, unlimited.JournalMaxBytes, unlimited.JournalSetAside = 100*365*24*time.Hour, 1<<59, false
	a, err := openOffline(ctx, &unlimited, command.NewLogger(logs, config.LogLevel))
	if err != nil {
		return err
	}
	err = a.writeBackup(ctx, w)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, a.Stop(stopping))
}

// download copies an answer of any length. It fails when ctx ends, or when nothing comes for a
// minute.
func (c *apiClient) download(ctx context.Context, path string, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(downloadPatience, func() {
		cancel(fmt.Errorf("nothing came from %s for %s", c.base, human.Seconds(downloadPatience.Seconds())))
	})
	defer idle.Stop()
	request, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	response, err := c.send(request)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var says struct{ Error string }
		_ = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&says) // the status has to do then
		return &apiError{response.StatusCode, cut.Text(says.Error, maxSaid)}
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := response.Body.Read(buf)
		idle.Reset(downloadPatience)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("the answer of %s broke off: %w", c.base, cmp.Or(context.Cause(ctx), err))
		}
	}
}

const downloadPatience = time.Minute

// fsyncDir makes a rename in a directory durable.
func fsyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
