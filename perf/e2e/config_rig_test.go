package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/perf/rig"
)

// cli runs the command line against the world's node.
func (w *world) cli(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "FAIRLEAD_SOCKET="+w.node.Socket, "TZ=UTC")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// did runs a command that must succeed, and gives what it writes.
func (w *world) did(args ...string) string {
	w.t.Helper()
	out, errs, code := w.cli(args...)
	if code != 0 {
		w.t.Fatalf("%v: exit status %d\n%s%s", args, code, out, errs)
	}
	return out
}

// didNot runs a command that must end with 1 and these words.
func (w *world) didNot(want string, args ...string) {
	w.t.Helper()
	out, errs, code := w.cli(args...)
	if code != 1 || out+errs != want {
		w.t.Errorf("%v: exit status %d\n%s%swant 1 and\n%s", args, code, out, errs, want)
	}
}

// file writes a file and gives its path.
func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(filepath.Dir(w.node.Config), name)
	w.must(os.WriteFile(path, []byte(text), 0o644))
	return path
}

// objects are the pools and services of sites in TOML, without anything of the
// node.
func (w *world) objects(sites ...*site) string {
	all, config := w.sites, w.config
	w.sites, w.config = sites, rig.Config{}
	text := w.text()
	w.sites, w.config = all, config
	return strings.Replace(text, "[xdp]\npin_path = \"\"\n", "", 1)
}

// nodeFile is the configuration file with these sites alone.
func (w *world) nodeFile(sites ...*site) string {
	all := w.sites
	w.sites = sites
	defer func() { w.sites = all }()
	return w.text()
}

// tables are the checksums of the services' tables, by service, of what
// documents declare together, compiled from nothing. All that is desired has
// them, or it has not been compiled whole.
func tables(file string, sent ...string) (map[string]string, error) {
	doc, err := configs.Read("file", []byte(file))
	if err != nil {
		return nil, err
	}
	state := doc.Config.State
	for _, text := range sent {
		more, err := configs.ReadObjects("sent", []byte(text))
		if err != nil {
			return nil, err
		}
		s := &more.Config.State
		state.Pools, state.Services = append(state.Pools, s.Pools...), append(state.Services, s.Services...)
	}
	return tablesOf(&state, doc.Config.StaticObservations())
}

func tablesOf(state *model.State, seen *model.Observations) (map[string]string, error) {
	result, err := compile.Compile(state, seen, nil, compile.Options{})
	if err != nil {
		return nil, err
	}
	images, err := fib.NewImages(result.Builder, 1)
	if err != nil {
		return nil, err
	}
	defer images.Close()
	out := map[string]string{}
	snap := images.Snapshot()
	for _, s := range snap.Services() {
		if s.ID != 0 {
			out[snap.Name(s.Name)] = fmt.Sprintf("%016x", snap.Pool(s.Pool).Checksum)
		}
	}
	return out, nil
}

// asCompiled demands that the node has the services, each with the table, that
// a compilation of these documents has.
func (w *world) asCompiled(status *api.Status, file string, sent ...string) {
	w.t.Helper()
	want, err := tables(file, sent...)
	w.must(err)
	got := map[string]string{}
	for _, s := range status.Services {
		got[s.Name] = s.Table
	}
	if !maps.Equal(got, want) {
		w.t.Fatalf("generation %d has the tables\n%v\na compilation of the same has\n%v", status.Generation.Published, got, want)
	}
}

// apply sends a document to the node.
func (w *world) apply(text string, q url.Values) (*api.ConfigResult, error) {
	var result api.ConfigResult
	err := w.node.Client().Call(w.ctx, http.MethodPost, "/v1/config/apply", q, api.Document{Type: "application/toml", Text: []byte(text)}, &result)
	return &result, err
}
