package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/api"
)

// client asks the node.
func (w *world) client() *api.Client { return api.NewClient(w.node.Socket) }

// fairlead runs a command that speaks to the node, and returns what it wrote and
// its exit status.
func (w *world) fairlead(args ...string) (out, errs string, code int) {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(w.ctx, binary, append(args, "--socket", w.node.Socket)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return stdout.String(), stderr.String(), exit.ExitCode()
	}
	w.must(err)
	return stdout.String(), stderr.String(), 0
}

// connect opens connections from the client to a site, and says which.
func (w *world) connect(s *site, n int) map[string]net.Conn {
	w.t.Helper()
	all := make(map[string]net.Conn, n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				conn, err := w.topo.Client.Dial(w.ctx, "tcp", s.at(streamPort).String())
				if err != nil {
					w.t.Errorf("connect to %s: %v", s.name, err)
					return
				}
				mu.Lock()
				all[conn.LocalAddr().String()] = conn
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	w.t.Cleanup(func() { shut(all) })
	return all
}

func shut(conns map[string]net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// listFlows lists flows by client and VIP.
func (w *world) listFlows(q api.FlowQuery) (flows map[string]api.Flow, more bool) {
	w.t.Helper()
	flows = make(map[string]api.Flow)
	w.must(w.client().Flows(w.ctx, q, func(b *api.FlowBatch) error {
		for _, f := range b.Flows {
			key := f.Client + " " + f.VIP
			if _, twice := flows[key]; twice {
				w.t.Errorf("%s is listed twice", key)
			}
			flows[key] = f
		}
		more = more || b.More
		return nil
	}))
	return flows, more
}

// TestFlows opens a thousand connections by all methods: the flows that are
// listed, counted and filtered are exactly these, with the backends that the
// connections really have.
func TestFlows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4), w.addSite(gue6), w.addSite(direct4)}
	w.serve()
	w.start()
	const each = 200
	conns := make(map[*site]map[string]net.Conn)
	for _, s := range sites {
		conns[s] = w.connect(s, each)
	}
	every, more := w.listFlows(api.FlowQuery{})
	if len(every) != len(sites)*each || more {
		t.Errorf("%d flows are listed, more %v; %d are open", len(every), more, len(sites)*each)
	}
	for _, s := range sites {
		name := s.service(streamPort)
		w.until("the last handshake packets of "+name+" are seen", func() bool {
			established, _ := w.listFlows(api.FlowQuery{FlowFilter: api.FlowFilter{Service: name, State: "established"}})
			return len(established) == each
		})
		flows, _ := w.listFlows(api.FlowQuery{FlowFilter: api.FlowFilter{Service: name}})
		perBackend := make(map[string]int)
		for client := range conns[s] {
			f, listed := flows[client+" "+s.at(streamPort).String()]
			if !listed {
				t.Errorf("%s: the connection of %s is not listed", s.method, client)
				continue
			}
			perBackend[f.Backend]++
			if f.VIP != s.at(streamPort).String() || f.Service != name || f.Method != s.method.name || f.IdleMS > 60_000 || f.ExpiresMS < 60_000 ||
				(f.SNAT != "") != !s.direct() || (f.Interface != "") != !s.direct() {
				t.Errorf("%s: %+v", s.method, f)
			}
			if i := slices.IndexFunc(s.members, func(m member) bool { return m.Name == f.Backend }); i < 0 || !strings.Contains(f.Address, s.pool("", streamPort).Backends[i].Address.String()) {
				t.Errorf("%s: backend %s at %s", s.method, f.Backend, f.Address)
			}
		}
		if len(flows) != each || len(perBackend) != len(s.members) {
			t.Errorf("%s: %d flows to %d backends", s.method, len(flows), len(perBackend))
		}
		counts, err := w.client().CountFlows(w.ctx, api.FlowCountQuery{FlowFilter: api.FlowFilter{Service: name}, By: "backend"})
		w.must(err)
		counted := make(map[string]int)
		for _, g := range counts.Groups {
			counted[g.Group] += int(g.Flows)
		}
		if !maps.Equal(counted, perBackend) || counts.Total != each {
			t.Errorf("%s: counted %v, listed %v", s.method, counted, perBackend)
		}
		w.active(name, perBackend)
		for backend, n := range perBackend {
			if of, _ := w.listFlows(api.FlowQuery{FlowFilter: api.FlowFilter{Service: name, Backend: backend}}); len(of) != n {
				t.Errorf("%s: %d flows of %s are listed, want %d", s.method, len(of), backend, n)
			}
		}
	}
	w.filters(sites[0], conns[sites[0]])
	w.refusedFilters()
	w.balance()
	w.must(w.node.Stop())
}

// active demands that a service is said to have as many flows as its backends
// have together, as soon as what was counted before is too old.
func (w *world) active(name string, perBackend map[string]int) {
	w.t.Helper()
	w.until("the flows of "+name+" are counted anew", func() bool {
		s, err := w.client().Service(w.ctx, name)
		w.must(err)
		if s.Active == nil || *s.Active == 0 {
			return false
		}
		total := 0
		for _, b := range s.Backends {
			if b.Active == nil || int(*b.Active) != perBackend[b.Name] {
				return false
			}
			total += int(*b.Active)
		}
		return total == int(*s.Active)
	})
}

// filters demands of each filter what it says.
func (w *world) filters(s *site, conns map[string]net.Conn) {
	w.t.Helper()
	var one netip.AddrPort
	for client := range conns {
		one = netip.MustParseAddrPort(client)
	}
	name, count := s.service(streamPort), len(conns)
	ends := func(text string) *api.Ends {
		e := new(api.Ends)
		w.must(e.UnmarshalText([]byte(text)))
		return e
	}
	for _, c := range []struct {
		what string
		f    api.FlowFilter
		want int
	}{
		{"a client's port", api.FlowFilter{Client: ends(one.String()), Service: name}, 1},
		{"a client's network", api.FlowFilter{Client: ends(netip.PrefixFrom(one.Addr(), 24).String()), Service: name}, count},
		{"another network", api.FlowFilter{Client: ends("203.0.113.254/32")}, 0},
		{"a VIP's port", api.FlowFilter{VIP: ends(s.at(streamPort).String())}, count},
		{"a VIP's other port", api.FlowFilter{VIP: ends(s.at(webPort).String())}, 0},
		{"a protocol", api.FlowFilter{Protocol: "udp"}, 0},
		{"a state", api.FlowFilter{State: "half_open"}, 0},
		{"affinity", api.FlowFilter{State: "affinity"}, 0},
		{"long idle", api.FlowFilter{Service: name, IdleOver: api.Duration(time.Hour)}, 0},
		{"not long idle", api.FlowFilter{Service: name, IdleUnder: api.Duration(time.Hour)}, count},
	} {
		if got, _ := w.listFlows(api.FlowQuery{FlowFilter: c.f}); len(got) != c.want {
			w.t.Errorf("%s: %d flows, want %d", c.what, len(got), c.want)
		}
	}
	if got, more := w.listFlows(api.FlowQuery{FlowFilter: api.FlowFilter{Service: name}, Limit: 7}); len(got) != 7 || !more {
		w.t.Errorf("limited to 7: %d, more %v", len(got), more)
	}
	if got, more := w.listFlows(api.FlowQuery{FlowFilter: api.FlowFilter{Service: name}, Limit: count}); len(got) != count || more {
		w.t.Errorf("limited to all: %d, more %v", len(got), more)
	}
	out, _, code := w.fairlead("flows", "--service", name, "--limit", "0", "-o", "json")
	var listed struct{ Flows []api.Flow }
	w.must(json.Unmarshal([]byte(out), &listed))
	if code != 0 || len(listed.Flows) != count {
		w.t.Errorf("the command lists %d flows, exit status %d", len(listed.Flows), code)
	}
	out, notes, _ := w.fairlead("flows", "--service", name, "--limit", "3", "--no-headers")
	if lines := strings.Count(out, "\n"); lines != 3 || notes != "there are more flows than 3; --limit 0 lists all\n" {
		w.t.Errorf("%d lines, and %q", lines, notes)
	}
}

// refusedFilters demands the exact answer to filters that name what there is
// not.
func (w *world) refusedFilters() {
	w.t.Helper()
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"flows --service nope", `there is no service "nope"`, 1},
		{"flows --backend 198.18.10.250:1", `there is no backend "198.18.10.250:1"`, 1},
		{"flows --service s1-web --backend nope", `service "s1-web" has no backend "nope"`, 1},
		{"flows --state open", `parameter "state": "open" is none of half_open, established, fin_wait, closed, unreplied, stream, affinity`, 1},
		{"flows --protocol icmp", `parameter "protocol": "icmp" is none of tcp, udp, sctp`, 1},
		{"flows --limit -1", `parameter "limit": -1 is out of range; it must be at least 0`, 1},
		{"flows --idle-over 5m --idle-under 1m", `no flow is idle for more than 5m and less than 1m`, 1},
		{"flows --count --by client", `parameter "by": "client" is none of service, backend, state, protocol, vip`, 1},
		{"flows --watch --interval 1ms", `parameter "interval": 1ms is out of range; it must be 100ms to 1m`, 1},
		{"drops --watch --reason nope", `there is no reason "nope"`, 1},
		{"drops --watch --reason flags_invalid", `there is no reason "flags_invalid"; is it tcp_flags_invalid?`, 1},
		{"drops --watch --reason forward_new", `"forward_new" is no reason to drop a packet`, 1},
		{"drops --watch --samples 1001", `parameter "samples": 1001 is out of range; it must be 0 to 1000`, 1},
		{"capture --count 0", `parameter "count": 0 is out of range; it must be 1 to 1000000`, 1},
		{"capture --duration 1h", `parameter "duration": 1h is out of range; it must be 100ms to 10m`, 1},
		{"capture --snaplen 13", `parameter "snaplen": 13 is out of range; it must be 14 to 4096`, 1},
		{"capture --direction in", `parameter "direction": "in" is none of received, sent, both`, 1},
		{"capture --service nope", `there is no service "nope"`, 1},
	} {
		out, errs, code := w.fairlead(strings.Fields(c.args)...)
		if errs != "fairlead: "+c.want+"\n" || code != c.code || out != "" {
			w.t.Errorf("%s: exit status %d, %q\nwant %d, %q", c.args, code, out+errs, c.code, c.want)
		}
	}
}

// watcher collects what becomes of flows.
type watcher struct {
	mu     sync.Mutex
	begun  int // flows at the beginning; -1 before it
	events []api.FlowEvent
	err    error
	done   chan struct{}
}

func (w *world) watchFlows(f api.FlowFilter) (*watcher, context.CancelFunc) {
	ctx, cancel := context.WithCancel(w.ctx)
	o := &watcher{begun: -1, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.err = w.client().WatchFlows(ctx, api.FlowWatchQuery{FlowFilter: f, Interval: api.Duration(100 * time.Millisecond)}, func(e *api.FlowEvents) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			if e.Watching != nil {
				o.begun = *e.Watching
			}
			o.events = append(o.events, e.Events...)
			return nil
		})
	}()
	w.t.Cleanup(func() { cancel(); <-o.done })
	return o, cancel
}

// clients are the clients of the flows that had an event.
func (o *watcher) clients(event string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := []string{}
	for _, e := range o.events {
		if e.Event == event {
			all = append(all, e.Client)
		}
	}
	slices.Sort(all)
	return all
}

// TestFlowWatch opens and closes connections while somebody watches: each is
// seen to begin, to change and to end, once, and nobody else's is.
func TestFlowWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	watched, other := w.addSite(nat4), w.addSite(direct4)
	watched.options = "[service.timeouts]\ntcp_close = \"1s\"\n"
	w.serve()
	w.start()
	old := w.connect(watched, 16)
	name := watched.service(streamPort)
	w.until("connections are established", func() bool {
		f, _ := w.listFlows(api.FlowQuery{FlowFilter: api.FlowFilter{Service: name, State: "established"}})
		return len(f) == 16
	})
	o, _ := w.watchFlows(api.FlowFilter{Service: name})
	w.until("the watch has begun", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.begun >= 0 })
	if o.begun != 16 {
		t.Errorf("%d flows when the watch began, want 16", o.begun)
	}
	w.connect(other, 16)
	conns := w.connect(watched, 48)
	want := slices.Sorted(maps.Keys(conns))
	w.until("all new flows are seen", func() bool { return len(o.clients("new")) >= len(want) })
	shut(conns)
	w.until("all flows are seen to end", func() bool { return len(o.clients("ended")) >= len(want) })
	if got := o.clients("new"); !slices.Equal(got, want) {
		t.Errorf("begun: %v\nwant %v", got, want)
	}
	if got := o.clients("ended"); !slices.Equal(got, want) {
		t.Errorf("ended: %v\nwant %v", got, want)
	}
	if got := slices.Compact(o.clients("changed")); !slices.Equal(got, want) {
		t.Errorf("changed: %v\nwant %v", got, want)
	}
	o.mu.Lock()
	for _, e := range o.events {
		if e.Event == "changed" && e.Was == e.State || e.Service != name {
			t.Errorf("event %+v", e)
		}
	}
	o.mu.Unlock()
	shut(old)
	out, errs, code := w.fairlead("flows", "--watch", "--service", name, "--for", "300ms", "--interval", "100ms")
	if code != 0 || errs != "" || !strings.Contains(out, " watching ") {
		t.Errorf("the command wrote %q and %q, exit status %d", out, errs, code)
	}
	w.balance()
	w.must(w.node.Stop())
	<-o.done
	if o.err != nil && w.ctx.Err() == nil && !strings.Contains(fmt.Sprint(o.err), "answer") {
		t.Errorf("the watch of a node that stops ends with %v", o.err)
	}
}
