package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// TestLargeConfiguration loads 10,000 services with 10 backends each, all pools
// different, and asserts that both processes together stay below 2 GiB, that
// the node serves, that one more service goes through, and that one backend
// less is a patch, also for a data process that has just been started.
func TestLargeConfiguration(t *testing.T) {
	const services, limit = 10_000, 2 << 30
	topo, err := lab.TwoArm(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer topo.Close()
	toml := largeConfiguration(topo, services, 10)
	node, err := rig.Start(t.Context(), binary, t.TempDir(), topo.LB, toml)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("%s", node.Log())
		}
	}()
	s, err := node.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Services) != services {
		t.Errorf("%d services are in force", len(s.Services))
	}
	begin := time.Now()
	toml += largeService(services, 10, topo.VIP4(1).String())
	if err := node.Reload(t.Context(), toml); err != nil {
		t.Fatal(err)
	}
	t.Logf("one more service after %v: %s", time.Since(begin).Round(time.Millisecond), inForce(node))
	for n := range 2 {
		toml = withoutBackend(toml)
		if err := node.Reload(t.Context(), toml); err != nil {
			t.Fatal(err)
		}
		line := inForce(node)
		if !strings.Contains(line, "patched=true") {
			t.Errorf("one backend less is no patch: %s", line)
		}
		t.Logf("one backend less: %s", line)
		if n == 0 {
			if err := node.KillData(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	total := 0
	for name, pid := range map[string]int{"control": node.Process().Pid(), "data": dataPID(t, node)} {
		peak := peakMemory(t, pid)
		t.Logf("%s process: %d MiB at most", name, peak>>20)
		total += peak
	}
	if total >= limit {
		t.Errorf("%d MiB, the limit is %d MiB", total>>20, limit>>20)
	}
	if err := node.Stop(); err != nil {
		t.Error(err)
	}
}

func dataPID(t *testing.T, node *rig.Node) int {
	t.Helper()
	var s *api.Status
	s, err := node.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Data.PID
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most memory that the process ever had resident, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(string(peakLine.FindSubmatch(status)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// inForce is what the node says of the last configuration that it took.
func inForce(node *rig.Node) string {
	log := string(node.Log())
	at := strings.LastIndex(log, "configuration in force")
	line, _, _ := strings.Cut(log[max(0, at):], "\n")
	return line
}

// withoutBackend leaves the last backend of a configuration out.
func withoutBackend(toml string) string {
	at := strings.LastIndex(toml, "[[pool.backend]]")
	_, rest, _ := strings.Cut(toml[at:], "\naddress = ")
	_, rest, _ = strings.Cut(rest, "\n")
	return toml[:at] + rest
}

func largeConfiguration(topo *lab.Topology, services, backends int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "[xdp]\npin_path = \"\"\n[[interface]]\nname = %q\n[[interface]]\nname = %q\n", topo.Front.Interface.Name, topo.Back.Interface.Name)
	fmt.Fprintf(&b, "[[snat]]\naddress = %q\n", topo.SNAT4(1))
	for i := range services {
		b.WriteString(largeService(i, backends, topo.VIP4(1+i/100).String()))
	}
	return b.String()
}

// largeService is the i-th service with a pool of its own.
func largeService(i, backends int, vip string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "[[pool]]\nname = \"p%d\"\n", i)
	for j := range backends {
		n := backends*i + j
		fmt.Fprintf(&b, "[[pool.backend]]\naddress = \"198.18.10.%d:%d\"\n", 11+n%40, 10_000+n/40%50_000)
	}
	fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\nvip = %q\nprotocol = \"tcp\"\nport = %d\npool = \"p%d\"\n", i, vip, 1000+i, i)
	return b.String()
}
