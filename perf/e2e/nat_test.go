package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairlead-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// TestNATFirstFlows is the path at its simplest: HTTP and UDP clients reach
// backends through NAT, and the ledger balances.
func TestNATFirstFlows(t *testing.T) {
	topo, err := lab.TwoArm(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()

	var toml strings.Builder
	fmt.Fprintf(&toml, "[xdp]\npin_path = \"\"\n[[interface]]\nname = %q\n[[interface]]\nname = %q\n", topo.Front.Interface.Name, topo.Back.Interface.Name)
	fmt.Fprintf(&toml, "[[snat]]\naddress = %q\n", topo.Back.Segment.Addr4(200))
	for _, name := range []string{"web:8080", "dns:5353"} {
		pool, port, _ := strings.Cut(name, ":")
		fmt.Fprintf(&toml, "[[pool]]\nname = %q\n", pool)
		for _, b := range topo.Backends {
			fmt.Fprintf(&toml, "[[pool.backend]]\naddress = \"%s:%s\"\n", b.IPv4, port)
		}
	}
	vip := topo.VIP4(1)
	fmt.Fprintf(&toml, "[[service]]\nname = \"web\"\nvip = %q\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\n", vip)
	fmt.Fprintf(&toml, "[[service]]\nname = \"dns\"\nvip = %q\nprotocol = \"udp\"\nport = 53\npool = \"dns\"\n", vip)
	for _, b := range topo.Backends {
		fmt.Fprintf(&toml, "[[neighbor]]\naddress = %q\nmac = %q\ninterface = %q\n", b.IPv4, b.Interface.MAC, topo.Back.Interface.Name)
		web, err := traffic.ServeHTTP(b.Host, netip.AddrPortFrom(b.IPv4, 8080).String())
		if err != nil {
			t.Fatal(err)
		}
		defer web.Close()
		dns, err := traffic.ServeUDP(b.Host, netip.AddrPortFrom(b.IPv4, 5353).String())
		if err != nil {
			t.Fatal(err)
		}
		defer dns.Close()
	}
	node, err := rig.Start(ctx, binary, t.TempDir(), topo.LB, toml.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("log of the node:\n%s", node.Log())
		}
	}()
	tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 200, Parallel: 8}.Run(ctx, topo.Client.Host)
	if err := tally.Err(); err != nil {
		t.Error(err)
	}
	udp := traffic.UDPLoad{Target: netip.AddrPortFrom(vip, 53), Flows: 100, Parallel: 10, PerFlow: 3}.Run(ctx, topo.Client.Host)
	if err := udp.Err(); err != nil {
		t.Error(err)
	}
	s, err := node.Balance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s.Ledger)
	if err := node.Stop(); err != nil {
		t.Error(err)
	}
}
