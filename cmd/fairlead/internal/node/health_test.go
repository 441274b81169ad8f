package node

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"fairlead/controlplane/model"
)

// TestHealthTargets: at which addresses, and by which ways, backends are asked.
func TestHealthTargets(t *testing.T) {
	ip := netip.MustParseAddr
	one := model.PortRange{First: 80, Last: 80}
	many := model.PortRange{First: 8000, Last: 8010}
	service := func(pool string, vip string, method model.Method, ports model.PortRange) model.Service {
		return model.Service{Name: vip, VIP: ip(vip), Protocol: model.TCP, Ports: ports, Pool: pool, Method: method}
	}
	for _, c := range []struct {
		name     string
		check    model.Check
		port     uint16 // of the backend
		services []model.Service
		want     []string
	}{
		{"nat", model.Check{}, 8080, []model.Service{service("p", "198.18.0.1", model.NAT, one)}, []string{"198.18.10.1:8080"}},
		{"nat, the client's port", model.Check{}, 0, []model.Service{service("p", "198.18.0.1", model.NAT, many)}, []string{"198.18.10.1:8000"}},
		{"nat, the check's port", model.Check{Port: 81}, 8080, []model.Service{service("p", "198.18.0.1", model.NAT, one)}, []string{"198.18.10.1:81"}},
		{"two of nat", model.Check{}, 0, []model.Service{service("p", "198.18.0.1", model.NAT, one), service("p", "198.18.0.2", model.NAT, one), service("p", "198.18.0.2", model.NAT, many)},
			[]string{"198.18.10.1:80", "198.18.10.1:8000"}},
		{"ipip and l2", model.Check{}, 0, []model.Service{service("p", "198.18.0.1", model.IPIP, one), service("p", "198.18.0.2", model.L2, one), service("q", "198.18.0.3", model.L2, one)},
			[]string{"198.18.0.1:80 ipip 9", "198.18.0.2:80 l2 0"}},
		{"direct", model.Check{Path: model.PathDirect}, 0, []model.Service{service("p", "198.18.0.1", model.GUE, one)}, []string{"198.18.10.1:80"}},
		{"exec", model.Check{Type: model.CheckExec}, 0, []model.Service{service("p", "198.18.0.1", model.GUE, one)}, []string{"198.18.10.1:80"}},
		{"icmp", model.Check{Type: model.CheckICMP}, 80, []model.Service{service("p", "198.18.0.1", model.GUE, one), service("p", "198.18.0.1", model.GUE, many)}, []string{"198.18.0.1:0 gue 9"}},
		{"every port", model.Check{}, 0, []model.Service{service("p", "198.18.0.1", model.IPIP, model.AllPorts)}, nil},
		{"every port, the check's", model.Check{Port: 7}, 0, []model.Service{service("p", "198.18.0.1", model.IPIP, model.AllPorts)}, []string{"198.18.0.1:7 ipip 9"}},
		{"no service", model.Check{}, 8080, nil, []string{"198.18.10.1:8080"}},
		{"no service and no port", model.Check{}, 0, nil, nil},
	} {
		s := &model.State{Services: c.services, Tunnel: model.Tunnel{TTL: 9},
			Pools: []model.Pool{{Name: "unchecked", Backends: []model.Backend{{Address: ip("198.18.10.9"), Port: 1}}},
				{Name: "p", Check: &c.check, Backends: []model.Backend{{Address: ip("198.18.10.1"), Port: c.port}}}}}
		var got []string
		for _, target := range targets(s) {
			if target.Key != (model.BackendKey{Pool: "p", Endpoint: netip.AddrPortFrom(ip("198.18.10.1"), c.port)}) || target.Check.Interval == 0 {
				t.Errorf("%s: target %+v", c.name, target)
			}
			for _, w := range target.Ways {
				text := w.Address.String()
				if !w.Direct() {
					text += fmt.Sprintf(" %s %d", w.Method, w.Tunnel.TTL)
				}
				got = append(got, text)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
