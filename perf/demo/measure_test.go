package main

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
)

func TestImbalance(t *testing.T) {
	for _, c := range []struct {
		name   string
		shares []share
		want   []string
	}{
		{"as expected", []share{{"b1", 250, .25}, {"b2", 250, .25}, {"b3", 500, .5}}, nil},
		{"by chance", []share{{"b1", 290, .25}, {"b2", 220, .25}, {"b3", 490, .5}}, nil},
		{"at the limit", []share{{"b1", 332, .25}, {"b2", 168, .25}, {"b3", 500, .5}}, nil},
		{"one too many", []share{{"b1", 333, .25}, {"b2", 250, .25}, {"b3", 417, .5}},
			[]string{"b1 has 333 of 1000 connections; 250 are expected, give or take 82"}},
		{"weights upside down", []share{{"b1", 500, .25}, {"b2", 250, .25}, {"b3", 250, .5}}, []string{
			"b1 has 500 of 1000 connections; 250 are expected, give or take 82",
			"b3 has 250 of 1000 connections; 500 are expected, give or take 95",
		}},
		{"one gets all", []share{{"b1", 30, .5}, {"b2", 0, .5}}, nil}, // below 6 sigma with so few
		{"one drained", []share{{"b1", 1000, 1}, {"b2", 0, 0}}, nil},
		{"one drained gets some", []share{{"b1", 999, 1}, {"b2", 1, 0}}, []string{
			"b1 has 999 of 1000 connections; 1000 are expected, give or take 0",
			"b2 has 1 of 1000 connections; 0 are expected, give or take 0",
		}},
		{"nothing", []share{{"b1", 0, 1}}, nil},
	} {
		if got := imbalance(c.shares); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStrangers(t *testing.T) {
	client, snat := netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("198.18.10.201")
	w := &world{topo: &lab.Topology{Client: &lab.Node{IPv4: client, IPv6: netip.MustParseAddr("2001:db8::2")}}}
	for _, c := range []struct {
		method string
		seen   netip.Addr
		want   string
	}{
		{"nat", snat, ""},
		{"nat", client, "the servers saw 3 requests from 198.18.0.2, with method nat"},
		{"ipip", client, ""},
		{"l2", netip.MustParseAddr("2001:db8::2"), ""},
		{"gue", snat, "the servers saw 3 requests from 198.18.10.201, with method gue"},
	} {
		if got := w.strangers(&service{packets: packets{method: c.method}}, map[netip.Addr]int{c.seen: 3}); got != c.want {
			t.Errorf("%s from %s: %q, want %q", c.method, c.seen, got, c.want)
		}
	}
}

func TestLedgerOutput(t *testing.T) {
	var out bytes.Buffer
	l := &api.Ledger{Received: 100, Created: 2, Transmitted: 90, Passed: 4, Dropped: 5, InFlight: 1, Difference: 2, Reasons: map[string]uint64{
		"forward_new": 20, "forward_flow": 70, "pass_not_ours": 3, "pass_arp": 1, "oversize": 5,
	}}
	problems := printLedger(&out, l)
	const want = `
The ledger: where every frame went
  received 100 + created 2 = transmitted 90 + passed 4 + dropped 5 + in flight 1
    transmit   forward_flow 70, forward_new 20
    pass       pass_arp 1, pass_not_ours 3
    drop       oversize 5
`
	if out.String() != want {
		t.Errorf("%s", &out)
	}
	if !slices.Equal(problems, []string{"the ledger does not balance: the difference is 2 frames"}) {
		t.Errorf("%q", problems)
	}
}

func TestDecapsulatedOutput(t *testing.T) {
	node := func(name string) *lab.Node { return &lab.Node{Host: &lab.Host{Name: name}} }
	w := &world{topo: &lab.Topology{Backends: []*lab.Node{node("b1"), node("b2")}}}
	var out bytes.Buffer
	problems := w.printDecapsulated(&out, []string{
		"interface=eth0 decapsulated=3 passed=1234567890 ipip_4in4=1234567890 ipip_6in4=1234567890 ipip_4in6=1234567890 gue=1234567890",
		"interface=eth0 decapsulated=0 rejected_source=7",
	})
	const want = `
The programs on the backends: what they took out of tunnels, and passed as it was
  b1 decapsulated 3, passed 1234567890, ipip_4in4 1234567890, ipip_6in4 1234567890,
     ipip_4in6 1234567890, gue 1234567890
  b2 decapsulated 0, rejected_source 7
`
	if out.String() != want {
		t.Errorf("%s", &out)
	}
	if !slices.Equal(problems, []string{"b2 counted rejected_source 7"}) {
		t.Errorf("%q", problems)
	}
}
