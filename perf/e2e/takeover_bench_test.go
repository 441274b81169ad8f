package e2e

import (
	"bytes"
	"context"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// BenchmarkVIPTakeover kills one of three nodes with -9, again and again, each in
// turn, and measures how long it takes, from the kill, until another node knows
// that it is dead, until its VIPs are that node's, until the client's segment has
// heard the first announcement, and until datagrams to one of these VIPs arrive
// again, of which a thousand are sent in a second.
func BenchmarkVIPTakeover(b *testing.B) {
	l := newTakeoverLab(b)
	var parts takeovers
	for i := 0; b.Loop(); i++ {
		parts.add(l.kill(i % 3))
	}
	parts.report(b)
}

// takeoverLab is a cluster as in TestVIPTakeover.
type takeoverLab struct {
	b   *testing.B
	ctx context.Context
	*rig.Cluster
	vips []netip.Addr
}

func newTakeoverLab(b *testing.B) *takeoverLab {
	b.Helper()
	l := &takeoverLab{b: b, ctx: b.Context()}
	at := b.TempDir()
	l.must(unix.Mount("bpf", at, "bpf", 0, ""))
	b.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			b.Error(err)
		}
	})
	rack, err := lab.NewRack(3, lab.Config{Backends: 3})
	l.must(err)
	b.Cleanup(func() { l.must(rack.Close()) })
	l.vips = ownerVIPs(rack)
	l.Cluster, err = rig.StartCluster(l.ctx, binary, b.TempDir(), rack, func(i int) string { return ownerText(rack, filepath.Join(at, rack.Balancers[i].Name)) })
	l.must(err)
	for _, k := range l.Backends {
		l.must(rig.Own(k, l.vips...))
	}
	return l
}

func (l *takeoverLab) must(err error) {
	l.b.Helper()
	if err != nil {
		l.b.Fatal(err)
	}
}

// owned waits until all nodes own VIPs and returns those of one.
func (l *takeoverLab) owned(i int) (vips []netip.Addr) {
	for {
		vips = nil
		have := map[string]int{}
		l.must(l.Nodes[i].Client().Addresses(l.ctx, nil, func(a *api.Address) error {
			have[a.Owner]++
			if a.Answered && a.Kind == "vip" {
				vips = append(vips, netip.MustParseAddr(a.Address))
			}
			return nil
		}))
		if len(have) == len(l.Nodes) && have[""] == 0 && len(vips) > 0 {
			return vips
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// kill kills a node, measures, and starts it again.
func (l *takeoverLab) kill(i int) (t takeover) {
	l.b.Helper()
	vips := l.owned(i)
	vip := vips[0]
	wire, err := l.Client.PacketConn(l.Client.Interface.Name)
	l.must(err)
	defer wire.Close()
	var sinks []*lab.Host
	for _, k := range l.Backends {
		sinks = append(sinks, k.Host)
	}
	counted, err := traffic.StartCounted(l.ctx, l.Client.Host, traffic.CountedConfig{Target: netip.AddrPortFrom(vip, namePort), Rate: 1000}, namePort, sinks...)
	l.must(err)
	for counted.Report().Arrived < 200 {
		time.Sleep(time.Millisecond)
	}
	logged := make([]int, len(l.Nodes))
	for k, n := range l.Nodes {
		logged[k] = len(n.Log())
	}
	var heard sync.WaitGroup
	var announced time.Time
	old := mac(l.Balancers[i].Interface)
	l.must(wire.SetReadDeadline(time.Now().Add(20 * time.Second)))
	heard.Go(func() {
		for {
			frame, err := wire.ReadFrame()
			if err != nil {
				return
			}
			if answersFor(frame, vip) && !bytes.Equal(frame[6:12], old[:]) {
				announced = time.Now()
				return
			}
		}
	})
	begin := time.Now()
	l.must(l.Kill(l.ctx, i))
	heard.Wait()
	if announced.IsZero() {
		l.b.Fatalf("nobody has announced %s within 20 s", vip)
	}
	before := counted.Report().Arrived
	for counted.Report().Arrived < before+200 {
		time.Sleep(time.Millisecond)
	}
	r, err := counted.Stop(l.ctx, 500*time.Millisecond)
	l.must(err)
	for _, h := range r.Holes {
		t.packet = max(t.packet, time.Duration(h.Count)*time.Millisecond)
	}
	t.announced = announced.Sub(begin)
	for k, n := range l.Nodes {
		if k == i {
			continue
		}
		text := string(n.Log()[logged[k]:])
		if dead := logTime(text, "a member of the cluster is dead", l.Balancers[i].Name); !dead.IsZero() {
			t.dead = max(t.dead, dead.Sub(begin))
		}
		if own := logTime(text, "VIPs are this node's now"); !own.IsZero() {
			t.owned = max(t.owned, own.Sub(begin))
		}
	}
	l.must(l.Nodes[i].Launch(l.ctx))
	l.owned(i)
	return t
}

var logStamp = regexp.MustCompile(`^time=(\S+) `)

// logTime is when the first line with all of these words was logged; the zero time:
// there is none.
func logTime(text string, words ...string) time.Time {
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			continue
		}
		if m := logStamp.FindStringSubmatch(line); m != nil {
			at, _ := time.Parse(time.RFC3339Nano, m[1])
			return at
		}
	}
	return time.Time{}
}

// takeover is how long the parts of one took, each from the kill.
type takeover struct {
	dead, owned       time.Duration // by the node that was last
	announced, packet time.Duration
}

type takeovers struct{ all []takeover }

func (t *takeovers) add(one takeover) { t.all = append(t.all, one) }

func (t *takeovers) report(b *testing.B) {
	for _, part := range []struct {
		name string
		of   func(*takeover) time.Duration
	}{
		{"dead", func(o *takeover) time.Duration { return o.dead }},
		{"owned", func(o *takeover) time.Duration { return o.owned }},
		{"announced", func(o *takeover) time.Duration { return o.announced }},
		{"packet", func(o *takeover) time.Duration { return o.packet }},
	} {
		var list []time.Duration
		for i := range t.all {
			list = append(list, part.of(&t.all[i]))
		}
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, part.name+"-median-ms")
		b.ReportMetric(float64(list[len(list)-1].Microseconds())/1000, part.name+"-worst-ms")
	}
	b.ReportMetric(0, "ns/op")
}
