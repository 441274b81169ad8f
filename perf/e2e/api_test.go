package e2e

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"fairlead/controlplane/api"
)

// TestAdminAPI asks a node with live connections for everything that can be
// asked for without knowing what, and holds each answer against the document
// that the node serves. Then the command line says the same: the services and
// backends with their counters, rates, where a flow that is there goes, and a
// report with all of it.
func TestAdminAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(nat4)
	w.serve()
	w.start()
	p := w.ping(20, s)
	p.await(1)
	w.conforms()

	var services struct{ Services []api.Service }
	w.say(&services, "services")
	i := slices.IndexFunc(services.Services, func(v api.Service) bool { return v.Flows > 0 })
	if i < 0 {
		t.Fatalf("no service has flows: %+v", services)
	}
	used := services.Services[i]
	var backends struct{ Backends []api.PoolBackend }
	w.say(&backends, "backends", "--service", used.Name)
	share, flows := 0.0, uint64(0)
	for _, b := range backends.Backends {
		share += b.Expected
		flows += b.Flows
	}
	if len(backends.Backends) != used.Total || used.Up != used.Total || share < 0.999 || share > 1.001 || flows < used.Flows || used.Active == nil || *used.Active < 20 {
		t.Errorf("service %+v\nbackends %+v", used, backends.Backends)
	}

	var list struct{ Flows []api.Flow }
	w.say(&list, "flows", "--service", used.Name, "--state", "established")
	if len(list.Flows) == 0 {
		t.Fatal("no flow is listed")
	}
	for _, f := range list.Flows[:min(5, len(list.Flows))] {
		var e api.Explanation
		w.say(&e, "explain", f.Client, f.Protocol, f.VIP)
		if e.Flow == nil || e.Flow.Address != f.Address || e.Service == nil || e.Service.Name != used.Name || e.Action != "transmit" || e.Generation == 0 {
			t.Errorf("flow %+v\nis explained as %+v, %+v", f, e, e.Flow)
		}
	}
	p.await(1)

	var top struct {
		ReceivedPerSecond float64
		Rows              []struct {
			Name             string
			PacketsPerSecond float64
		}
	}
	w.say(&top, "top", "--interval", "1s", "--iterations", "1")
	if len(top.Rows) != len(services.Services) || top.Rows[0].Name != used.Name || top.Rows[0].PacketsPerSecond <= 0 || top.ReceivedPerSecond <= 0 {
		t.Errorf("rates %+v", top)
	}

	file := filepath.Join(t.TempDir(), "report.tar.gz")
	var report struct {
		Items []struct {
			Name  string
			Bytes int
		}
	}
	w.say(&report, "bugreport", "-f", file)
	for _, name := range []string{"node/status.json", "node/services.json", "node/backends.json", "node/config.json", "node/debug-log.txt", "node/debug-goroutines.txt", "doctor.json", "machine/proc/version"} {
		if !slices.ContainsFunc(report.Items, func(i struct {
			Name  string
			Bytes int
		}) bool {
			return i.Name == name && i.Bytes > 0
		}) {
			t.Errorf("the report has no %s: %+v", name, report.Items)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	p.await(1)
	p.stop()
	w.balance()
}

// say runs a command of the command line and decodes what it says.
func (w *world) say(into any, command ...string) {
	w.t.Helper()
	out, err := exec.CommandContext(w.ctx, w.node.Binary, append(command, "--socket", w.node.Socket, "-o", "json")...).Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		w.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// conforms asks every endpoint that can be asked, and compares.
func (w *world) conforms() {
	w.t.Helper()
	text := w.told("/v1/openapi.json")
	doc, err := openapi3.NewLoader().LoadFromData(text)
	w.must(err)
	w.must(doc.Validate(w.ctx))
	asked := 0
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		item := doc.Paths.Value(path)
		op := item.Get
		if op == nil || slices.ContainsFunc(op.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Required }) {
			continue
		}
		if content := op.Responses.Value("200"); content == nil || content.Value.Content["application/json"] == nil {
			continue
		}
		if strings.HasPrefix(path, "/v1/cluster/") && w.refusedAlone(path) {
			continue
		}
		asked++
		body := w.told(path)
		route := &routers.Route{Spec: doc, Path: path, PathItem: item, Method: http.MethodGet, Operation: op}
		in := &openapi3filter.RequestValidationInput{Request: httptest.NewRequest(http.MethodGet, path, nil), Route: route}
		out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}}
		out.SetBodyBytes(body)
		if err := openapi3filter.ValidateResponse(w.ctx, out); err != nil {
			w.t.Errorf("%s: %v\n%s", path, err, body)
		}
	}
	if asked < 8 {
		w.t.Errorf("only %d endpoints were asked", asked)
	}
}

// refusedAlone reports whether a node that is in no cluster says so.
func (w *world) refusedAlone(path string) bool {
	w.t.Helper()
	body, err := w.node.Client().Open(w.ctx, http.MethodGet, path, nil, nil)
	if err == nil {
		body.Close()
		return false // what it sums up is its own
	}
	const want = "this node is in no cluster; [cluster] in its configuration has it join one"
	if err.Error() != want {
		w.t.Errorf("%s: %v: want %q", path, err, want)
	}
	return true
}

// told asks for one answer.
func (w *world) told(path string) []byte {
	w.t.Helper()
	body, err := w.node.Client().Open(w.ctx, http.MethodGet, path, nil, nil)
	w.must(err)
	defer body.Close()
	text, err := io.ReadAll(body)
	w.must(err)
	return text
}
