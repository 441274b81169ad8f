package selftest

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestMemory measures few flows as shortly as can be: every case is there, and
// no packet was lost, which would be an error.
func TestMemory(t *testing.T) {
	var told []string
	flows := []int{1, 3000}
	r, err := Run(t.Context(), Options{Duration: MinDuration, Flows: flows}, func(s string) { told = append(told, s) })
	if err != nil {
		t.Fatal(err)
	}
	if want := len(memoryMethods) * 2 * len(flows); len(r.Memory) != want || len(told) != want {
		t.Fatalf("%d results of %d measurements, want %d", len(r.Memory), len(told), want)
	}
	for _, m := range r.Memory {
		if m.One.NS <= 0 || m.One.Mpps <= 0 || (m.All != nil) != (r.CPUs > 1) || m.All != nil && m.All.NS <= 0 {
			t.Errorf("%+v, %+v", m, m.All)
		}
	}
	if told[0] != "in memory: nat, IPv4, 1 flows" {
		t.Errorf("it says %q first", told[0])
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text.String(), "\n"); n != len(r.Memory)+4 {
		t.Errorf("%d lines:\n%s", n, text.String())
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	station := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Duration: time.Millisecond}, "a measurement takes 10ms to 10s, not 1ms"},
		{Options{Duration: time.Minute}, "a measurement takes 10ms to 10s, not 1m0s"},
		{Options{Duration: time.Second}, "there can be 1 to 10000000 flows, not []"},
		{Options{Duration: time.Second, Flows: []int{1, 0}}, "there can be 1 to 10000000 flows, not [1 0]"},
		{Options{Duration: time.Second, Flows: []int{20_000_000}}, "there can be 1 to 10000000 flows, not [20000000]"},
		{Options{Duration: time.Second, Flows: DefaultFlows(), Traffic: true}, "traffic needs an interface: name it with --interface"},
		{Options{Duration: time.Second, Interface: "eth0", Transmit: station}, "frames are sent only when traffic is asked for as well: add --traffic"},
		{Options{Duration: time.Second, Interface: "eth0", Traffic: true, Transmit: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, "ff:ff:ff:ff:ff:ff is not the Ethernet address of one station"},
		{Options{Duration: time.Second, Interface: "eth0", Traffic: true, Transmit: net.HardwareAddr{1, 2, 3, 4, 5, 6, 7, 8}}, "01:02:03:04:05:06:07:08 is not the Ethernet address of one station"},
		{Options{Duration: time.Second, Interface: "nobody"}, "interface nobody: there is no such interface"},
	} {
		if _, err := Run(t.Context(), c.o, nil); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// TestEveryMethodIsForwarded compiles the self-test's configurations.
func TestEveryMethodIsForwarded(t *testing.T) {
	for _, method := range memoryMethods {
		for _, v6 := range []bool{false, true} {
			s, err := snapshotFor(method, v6)
			if err != nil {
				t.Errorf("%s: %v", method, err)
				continue
			}
			if n := len(s.Backends()); n < testBackends {
				t.Errorf("%s: %d backends", method, n)
			}
		}
	}
	if _, err := snapshotFor("carrier pigeon", false); err == nil {
		t.Error("a method that there is not is taken")
	}
}
