package main

import (
	"bytes"
	"testing"
	"time"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// each hands out a list.
func each[T any](list ...T) func(func(*T) error) error {
	return func(f func(*T) error) error {
		for i := range list {
			if err := f(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestNetworkTables asserts what people see of neighbours, ways and addresses.
func TestNetworkTables(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before := now.Add(-90 * time.Second)
	neighbors := each(
		api.Neighbor{Interface: "eth1", Address: "198.18.10.12", State: "failed", Targets: 1, For: []string{"198.18.10.12"}, Since: &before, Problem: "nobody answers for it", Advice: "see whether it is up"},
		api.Neighbor{Interface: "eth1", Address: "198.18.10.254", MAC: "02:00:00:00:00:fe", State: "reachable", Resolved: true, Answers: true, Targets: 2, For: []string{"192.0.2.1", "192.0.2.2"}},
	)
	routes := each(
		api.Route{Target: "203.0.113.9", Backends: []string{"web/far"}, Count: 7, Problem: "no route leads there, or one that forbids", Advice: "add a route"},
		api.Route{Target: "192.0.2.1", Backends: []string{"web/web1"}, Count: 1, Hops: []api.RouteHop{
			{Interface: "eth1", Address: "198.18.10.254", MAC: "02:00:00:00:00:fe", State: "reachable", Weight: 3}, {Interface: "eth0", Address: "198.18.0.254", State: "failed", Weight: 1}}},
		api.Route{Target: "198.18.10.11", Backends: []string{"web/web2"}, Count: 1, Hops: []api.RouteHop{{Interface: "eth1", Address: "198.18.10.11", MAC: "02:00:00:00:00:11", State: "stale", Weight: 1}}},
	)
	addresses := each(
		api.Address{Address: "198.18.0.10", Kind: "vip", Answered: true, Owner: "lb1", Interfaces: []string{"eth0"}, Announced: 3, Last: &before,
			Conflict: &api.AddressConflict{Interface: "eth0", MAC: "02:00:00:00:00:99", First: before, Last: before}},
		api.Address{Address: "198.18.0.11", Kind: "vip", Owner: "lb2"},
	)
	for _, c := range []struct {
		name, want string
		write      func(*output.Options, *bytes.Buffer) error
	}{
		{"neighbors", `
INTERFACE  ADDRESS        MAC                STATE      AGE    TARGETS  PROBLEM
eth1       198.18.10.12   -                  failed     1m30s        1  nobody answers for it; see whether it is up
eth1       198.18.10.254  02:00:00:00:00:fe  reachable  -            2  -
`, func(o *output.Options, b *bytes.Buffer) error { return writeNeighbors(b, o, now, neighbors) }},
		{"routes", `
TARGET        BACKENDS            INTERFACE  BY             MAC                PROBLEM
203.0.113.9   web/far and 6 more  -          -              -                  no route leads there, or one that forbids; add a route
192.0.2.1     web/web1            eth1       198.18.10.254  02:00:00:00:00:fe  -
198.18.10.11  web/web2            eth1       on link        02:00:00:00:00:11  -
`, func(o *output.Options, b *bytes.Buffer) error { return writeWays(b, o, routes) }},
		{"addresses", `
ADDRESS      KIND  ANSWERED  OWNER  ANNOUNCED ON  TIMES  LAST   PROBLEM
198.18.0.10  vip   yes       lb1    eth0              3  1m30s  claimed by 02:00:00:00:00:99 on eth0, too, last 1m30s ago
198.18.0.11  vip   no        lb2    -                 -  -      -
`, func(o *output.Options, b *bytes.Buffer) error { return writeAddresses(b, o, now, addresses) }},
	} {
		var out bytes.Buffer
		if err := c.write(&output.Options{Format: output.FormatTable}, &out); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + out.String(); got != c.want {
			t.Errorf("%s:%s\nwant%s", c.name, got, c.want)
		}
	}
}
