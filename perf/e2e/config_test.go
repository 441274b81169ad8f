package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
)

// reaches waits until new connections to a site's service are answered.
func (w *world) reaches(s *site) {
	w.t.Helper()
	if tally := w.http(s, 20); tally.Answers != 20 {
		w.t.Errorf("%s: %d answers of 20", s.name, tally.Answers)
	}
}

// state writes the [state] table of the world's node.
func (w *world) guarded(percent int, dir string) {
	w.config.Options = fmt.Sprintf("[state]\ndirectory = %q\nremoval_guard = %d", dir, percent)
}

// TestConfigCommands goes through the life of a configuration by the command
// line: sent, refused, compared, confirmed and not confirmed, rolled back, and
// all of it again after restarts, while connections of other services live.
func TestConfigCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 2 * time.Minute})
	dir := t.TempDir()
	w.guarded(50, dir)
	held, sent := w.addSite(nat4), w.addSite(nat4)
	w.serve()
	all := w.sites
	w.sites = all[:1]
	w.start()
	w.sites = all
	p := w.ping(10, held)

	// A service of what is sent uses a pool of the file.
	shop := fmt.Sprintf("[[service]]\nname = \"shop\"\nvip = %q\nprotocol = \"tcp\"\nport = 80\npool = %q\n", sent.vip, held.service(webPort))
	path := w.file("shop.toml", shop)
	out := w.did("config", "apply", path, "-m", "new shop")
	if !strings.HasPrefix(out, "+ service shop\n    vip: "+sent.vip.String()+"\n") || !strings.HasSuffix(out, "version 2 is in force: +1 service\n") {
		t.Errorf("apply writes\n%s", out)
	}
	w.reaches(sent)
	if out := w.did("config", "apply", path); out != "nothing changes; version 2 is in force\n" {
		t.Errorf("the same again:\n%s", out)
	}
	if out := w.did("config", "diff", path); out != "" {
		t.Errorf("a difference to itself:\n%s", out)
	}

	// What is wrong is told as check tells it, and changes nothing.
	before := w.status()
	wrongPath := w.file("wrong.toml", "[node]\nname = \"x\"\n"+shop+"prot = 1\n[[pool]]\nname = \"p\"\n[[pool.backend]]\naddress = \"198.18.0.300\"\n")
	w.didNot("error: "+wrongPath+`:1:2: "node" belongs to the node's own file; only services, pools, VIPs, SNAT addresses and timeouts can be sent
error: `+wrongPath+`:9:1: unknown key "prot" in [[service]] (did you mean "port"?)
error: `+wrongPath+`:13:11: address: "198.18.0.300" is not an IP address with or without a port; write it as "192.0.2.1:80", "[2001:db8::1]:80" or "192.0.2.1"
fairlead: `+wrongPath+": 3 errors\n", "config", "apply", wrongPath)
	checked := w.file("checked.toml", w.nodeFile(held)+"[[service]]\nname = \"x\"\nvip = \"198.18.100.250\"\nprotocol = \"tcp\"\nport = 1\npool = \"nowhere\"\n")
	asFile, _, _ := w.cli("check", "--offline", "--config", checked)
	asSource, _, code := w.cli("config", "diff", "--node-file", checked)
	if asFile != asSource || code != 2 || !strings.Contains(asFile, `no [[pool]] has the name "nowhere"`) {
		t.Errorf("check says\n%s\ndiff (exit status %d)\n%s", asFile, code, asSource)
	}
	if now := w.status(); now.Generation.Published != before.Generation.Published || now.Desired.Version != 2 {
		t.Errorf("generation %+v, %+v; it was %+v", now.Generation, now.Desired, before.Generation)
	}

	// Sent with --confirm, it goes by itself, after a restart too.
	none := w.file("none.toml", "# nothing\n")
	out, _, code = w.cli("config", "diff", none)
	if code != 1 || !strings.HasPrefix(out, "- service shop\n") {
		t.Errorf("diff: exit status %d\n%s", code, out)
	}
	w.did("config", "apply", none, "--confirm", "1s")
	w.until("the change is undone", func() bool { return w.status().Desired.Version == 4 })
	w.reaches(sent)
	w.did("config", "apply", none, "--confirm", "10m")
	_, errs, code := w.cli("config", "apply", path)
	if code != 1 || !strings.Contains(errs, "version 5 waits to be confirmed until") || !strings.Contains(errs, "`fairlead config confirm` it or `fairlead config rollback` first") {
		t.Errorf("a second change: exit status %d: %s", code, errs)
	}
	if out := w.did("status"); !strings.Contains(out, "version 5 is undone at ") {
		t.Errorf("the status does not tell of what waits:\n%s", out)
	}
	p.await(1)
	p.stop()
	w.must(w.node.Stop())
	w.must(w.node.Launch(w.ctx))
	if s := w.status(); s.Desired.Version != 5 || s.Desired.Pending == nil || s.Desired.Pending.Version != 5 || len(s.Services) != 3 {
		t.Errorf("after a restart: %+v", s.Desired)
	}
	p = w.ping(10, held)
	if out := w.did("config", "rollback"); !strings.HasSuffix(out, "version 6 is in force: +1 service\n") {
		t.Errorf("rollback writes\n%s", out)
	}
	w.reaches(sent)
	w.did("config", "apply", none, "--confirm", "10m", "--force")
	if out := w.did("config", "confirm"); out != "version 7 stays\n" {
		t.Errorf("confirm writes %s", out)
	}
	w.didNot("fairlead: no change waits to be confirmed\n", "config", "confirm")
	w.did("config", "rollback", "2", "-m", "the shop again")
	w.didNot("fairlead: no such version: there is no version 99; kept are some from 1 to 8\n", "config", "rollback", "99")
	w.reaches(sent)
	history := strings.Split(strings.TrimSpace(w.did("config", "history", "--no-headers")), "\n")
	if len(history) != 8 || !strings.HasPrefix(strings.TrimSpace(history[0]), "8") || !strings.Contains(history[0], "the shop again") || !strings.Contains(history[6], "new shop") || !strings.Contains(history[6], "root (pid ") {
		t.Errorf("history:\n%s", strings.Join(history, "\n"))
	}
	if out := w.did("config", "show", "--source", "api"); out != shop {
		t.Errorf("show writes\n%s", out)
	}
	p.await(1)
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}

// TestConfigGuard: a file that lost most of its services is refused by SIGHUP
// and by reload, until it is forced; and rollback undoes it for good.
func TestConfigGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	dir := t.TempDir()
	w.guarded(50, dir)
	sites := []*site{w.addSite(nat4), w.addSite(nat4)}
	w.serve()
	w.start()
	full, short := w.text(), w.nodeFile()
	why, err := w.node.Refuse(w.ctx, short)
	w.must(err)
	for _, want := range []string{"this removes 6 of 6 services and 18 of 18 backends", "fairlead config reload --force"} {
		if !strings.Contains(why, want) {
			t.Errorf("the log says %s, want %s", why, want)
		}
	}
	w.didNot("fairlead: this removes 6 of 6 services and 18 of 18 backends, which is more than the 50 % that [state] removal_guard allows at once; use --force if it is meant\n", "config", "reload")
	out, _, code := w.cli("config", "diff")
	if code != 1 || !strings.Contains(out, "- service s1-web\n") || !strings.Contains(out, "warning: this removes 6 of 6 services") {
		t.Errorf("diff: exit status %d\n%s", code, out)
	}
	if s := w.status(); len(s.Services) != 6 || len(s.Desired.Conditions) != 1 || s.Desired.Conditions[0].Type != "file_refused" {
		t.Errorf("%d services, %+v", len(s.Services), s.Desired)
	}
	w.did("config", "reload", "--force")
	if s := w.status(); len(s.Services) != 0 || len(s.Desired.Conditions) != 0 {
		t.Errorf("%d services, %+v", len(s.Services), s.Desired)
	}
	w.did("config", "rollback")
	w.reaches(sites[0])
	// The file is still the short one. A restart does not fall for it.
	w.must(w.node.Stop())
	w.must(w.node.Launch(w.ctx))
	if s := w.status(); len(s.Services) != 6 || len(s.Desired.Conditions) != 1 || s.Desired.Conditions[0].Type != "file_overruled" {
		t.Errorf("%d services, %+v", len(s.Services), s.Desired)
	}
	w.must(os.WriteFile(w.node.Config, []byte(full), 0o644))
	w.did("config", "reload")
	if s := w.status(); len(s.Services) != 6 || len(s.Desired.Conditions) != 0 {
		t.Errorf("%d services, %+v", len(s.Services), s.Desired)
	}
	w.reaches(sites[1])
	// What belongs to the node waits for its next start.
	w.must(os.WriteFile(w.node.Config, []byte("[node]\nlog_level = \"debug\"\n"+full), 0o644))
	w.did("config", "reload")
	if c := w.status().Desired.Conditions; len(c) != 1 || c[0].Type != "restart_required" || c[0].Message != "settings that take effect when the node is started again: [node]" {
		t.Errorf("%+v", c)
	}
	w.did("config", "rollback")
	if c := w.status().Desired.Conditions; len(c) != 1 || c[0].Type != "file_overruled" {
		t.Errorf("%+v", c)
	}
	w.must(w.node.Stop())
}

// TestBackendSettings drains, disables and weighs backends under connections;
// that outlives reloads and restarts.
func TestBackendSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 3}})
	s := w.addSite(nat4)
	w.serve()
	w.start()
	b := w.topo.Backends
	p := w.ping(20, s)
	serves := func(when string, want ...*lab.Node) {
		t.Helper()
		all := s.members
		s.members = nil
		for _, n := range want {
			s.members = append(s.members, member{n, 1})
		}
		w.onlyTo(s, w.http(s, 60), when)
		s.members = all
	}
	pool := s.service(webPort)
	end := func(n *lab.Node) string { return netip.AddrPortFrom(n.IPv4, natOffset+webPort).String() }
	if out := w.did("backend", "drain", pool, end(b[0]), "-m", "new disk"); out != "+ setting of "+end(b[0])+" in pool "+pool+"\n    state: drained\nversion 2 is in force: +1 backend setting\n" {
		t.Errorf("drain writes\n%s", out)
	}
	serves("drained", b[1], b[2])
	w.did("backend", "disable", pool, b[1].Name)
	serves("one drained, one disabled", b[2])
	if out := w.did("__complete", "backend", "drain", pool, "198.18."); !strings.HasPrefix(out, end(b[0])+"\n"+end(b[1])+"\n"+end(b[2])+"\n:") {
		t.Errorf("the shell is offered\n%s", out)
	}
	w.didNot(fmt.Sprintf("fairlead: pool %q has no backend \"198.18.10.99:1\"; it has %s, %s, %s\n", pool, b[0].Name, b[1].Name, b[2].Name),
		"backend", "drain", pool, "198.18.10.99:1")
	if _, errs, code := w.cli("backend", "weight", pool, end(b[0]), "70000"); code != 2 || errs != "fairlead: \"70000\" is no weight: it is 0 to 65535, or \"declared\"\n" {
		t.Errorf("exit status %d: %s", code, errs)
	}
	// A reload of other things, and a restart, know of it.
	s.options = "drain_timeout = \"7m\""
	w.reload()
	serves("after a reload", b[2])
	p.await(1) // connections are of another pool, and none the worse
	p.stop()
	w.must(w.node.Stop())
	w.must(w.node.Launch(w.ctx))
	serves("after a restart", b[2])
	w.did("backend", "enable", pool, end(b[0]))
	w.did("backend", "enable", pool, end(b[1]))
	w.did("backend", "weight", pool, end(b[2]), "0")
	serves("with a weight of 0", b[0], b[1])
	w.did("backend", "weight", pool, end(b[2]), "declared")
	serves("as declared", b[0], b[1], b[2])
	w.balance()
	w.must(w.node.Stop())
}

// TestStartWithoutFile: with a file that is wrong or missing the node serves
// what was in force last, with all that was sent and set, and says so.
func TestStartWithoutFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 2 * time.Minute, lab: lab.Config{Backends: 2}})
	own, sent := w.addSite(nat4), w.addSite(nat4)
	w.serve()
	all := w.sites
	w.sites = all[:1]
	w.start()
	w.sites = all
	w.did("config", "apply", w.file("sent.toml", w.objects(sent)))
	w.did("backend", "drain", sent.service(webPort), w.topo.Backends[0].Name)
	drained := func() {
		t.Helper()
		w.reaches(own)
		tally := w.http(sent, 20)
		if tally.ByServer[w.topo.Backends[0].Name] > 0 {
			t.Errorf("new connections go to a drained backend: %v", tally.ByServer)
		}
	}
	drained()
	good, err := os.ReadFile(w.node.Config)
	w.must(err)
	w.node.Args = []string{"--state-directory", filepath.Join(filepath.Dir(w.node.Config), "state")}
	for name, spoil := range map[string]func() error{
		"wrong":   func() error { return os.WriteFile(w.node.Config, []byte("[[service]]\nname = 7\n"), 0o644) },
		"missing": func() error { return os.Remove(w.node.Config) },
	} {
		w.must(w.node.Stop())
		w.must(spoil())
		w.must(w.node.Launch(w.ctx))
		if log := string(w.node.Log()); !strings.Contains(log, "THE CONFIGURATION FILE CANNOT BE USED") {
			t.Errorf("%s: the log does not say it:\n%s", name, log)
		}
		if s := w.status(); s.Health != api.HealthDegraded || len(s.Desired.Conditions) != 1 || s.Desired.Conditions[0].Type != "file_refused" {
			t.Errorf("%s: health %s, %+v", name, s.Health, s.Desired)
		}
		drained()
		w.must(os.WriteFile(w.node.Config, good, 0o644))
		w.did("config", "reload")
		if s := w.status(); len(s.Desired.Conditions) != 0 {
			t.Errorf("%s: %+v", name, s.Desired)
		}
	}
	// With nothing on disk there is nothing to start with.
	w.must(w.node.Stop())
	w.must(os.RemoveAll(w.node.Args[1]))
	w.must(os.Remove(w.node.Config))
	if err := w.node.Launch(w.ctx); err == nil || !strings.Contains(err.Error(), "read configuration: open "+w.node.Config) {
		t.Errorf("without anything: %v", err)
	}
}

// TestKilledWhileApplying kills the control process with SIGKILL while documents
// are sent to it one after the other. What it comes up with is the last that was
// answered for, or the one that was on its way: as a whole, and compiled whole.
func TestKilledWhileApplying(t *testing.T) {
	t.Parallel()
	const kills = 10
	w := newWorld(t, worldConfig{limit: 2 * time.Minute, lab: lab.Config{Backends: 4}})
	own, sent := w.addSite(nat4), w.addSite(gue4)
	w.serve()
	all := w.sites
	w.sites = all[:1]
	w.start()
	w.sites = all
	file := w.nodeFile(own)
	r := rand.New(rand.NewPCG(5, 1))
	nodes := members(w.topo.Backends...)
	p := w.ping(10, own) // the data process goes on meanwhile
	last := ""
	for n := range kills {
		answered, sending := "", last
		ended := make(chan error, 1)
		process := w.node.Process()
		go func() {
			for {
				sent.members = shuffled(r, nodes)
				text := w.objects(sent)
				if text == answered || text == last && answered == "" {
					continue
				}
				sending = text
				if _, err := w.apply(text, nil); err != nil {
					ended <- err
					return
				}
				answered = text
			}
		}()
		// A moment that has nothing to do with what is being done.
		at := time.After(time.Duration(20+rand.IntN(150)) * time.Millisecond)
		<-at
		w.must(process.Signal(syscall.SIGKILL))
		err := <-ended
		if answer := (*api.Error)(nil); errors.As(err, &answer) {
			t.Fatalf("kill %d: a document is refused: %v", n, err)
		}
		<-process.Done()
		w.must(w.node.Launch(w.ctx))
		var now api.VersionedConfig
		w.must(w.node.Client().Call(w.ctx, http.MethodGet, "/v1/config", nil, nil, &now))
		got := ""
		for _, s := range now.Sources {
			if s.Source == "api" {
				got = s.Text
			}
		}
		before := answered
		if before == "" {
			before = last
		}
		if got != before && got != sending {
			t.Fatalf("kill %d: there is\n%s\nanswered for was\n%s\non its way was\n%s", n, got, before, sending)
		}
		last = got
		w.asCompiled(w.status(), file, got)
		if c := w.status().Desired.Conditions; len(c) > 0 {
			t.Errorf("kill %d: %+v", n, c)
		}
		w.reaches(own)
	}
	p.await(1)
	p.stop()
	w.must(w.node.Stop())
}
