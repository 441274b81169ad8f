package node

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fairlead/controlplane/api"
	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
	"fairlead/dataplane/ipc"
)

// listed is a node that has an image of a state in force, and nothing else.
func listed(t testing.TB, s *model.State) *Node {
	t.Helper()
	obs := &model.Observations{Interfaces: []model.Interface{{Name: "eth0", Index: 1, MAC: [6]byte{2}, MTU: 1500}}, NextHops: make(map[netip.Addr]model.NextHop)}
	for i := range s.Pools {
		for _, b := range s.Pools[i].Backends {
			obs.NextHops[b.Address] = model.NextHop{Interface: "eth0", MAC: [6]byte{2, 1}, Resolved: !strings.Contains(b.Name, "lost")}
		}
	}
	r, err := compile.Compile(s, obs, nil, compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{}
	if n.image, err = newImage(1, r.Builder); err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, ipc.CountersSize(1, maxServices, maxBackends))
	if n.counters, err = ipc.MapCounters(memory, 1, maxServices, maxBackends); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.image.close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// manyServices is a state of so many services, every third of them on the pool
// of another, with names that need care in a query.
func manyServices(count, backends int) *model.State {
	s := &model.State{HashSeed: [2]uint64{1, 2}, Tunnel: model.Tunnel{Source4: netip.MustParseAddr("198.18.255.1"), GUEPort: 6080, TTL: 64}, Limits: model.DefaultLimits()}
	address := netip.MustParseAddr("198.19.0.0")
	for i := range count {
		pool := fmt.Sprintf("pool %d/%%", i)
		if i%3 == 2 {
			pool = fmt.Sprintf("pool %d/%%", i-1)
		} else {
			p := model.Pool{Name: pool}
			for j := range backends {
				name := fmt.Sprintf("b/%d", j)
				if j == 1 {
					name = "lost"
				}
				address = address.Next()
				p.Backends = append(p.Backends, model.Backend{Name: name, Address: address, Weight: min(j+1, 2)})
			}
			s.Pools = append(s.Pools, p)
		}
		protocol := model.TCP
		if i%2 == 1 {
			protocol = model.UDP
		}
		s.Services = append(s.Services, model.Service{
			Name: fmt.Sprintf("service %d", i), VIP: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Protocol: protocol,
			Ports: model.PortRange{First: 80, Last: 80}, Pool: pool, Method: model.IPIP, Gone: model.GoneReset, Timeouts: model.DefaultTimeouts(),
		})
	}
	return s
}

// TestServicePages asserts that pages of any length have every service once, by
// name, and those alone that are asked for.
func TestServicePages(t *testing.T) {
	state := manyServices(100, 3)
	n := listed(t, state)
	vip := netip.MustParseAddr("198.18.0.7")
	for _, c := range []struct {
		query api.ServiceQuery
		has   func(*model.Service) bool
	}{
		{api.ServiceQuery{}, func(*model.Service) bool { return true }},
		{api.ServiceQuery{Backends: true}, func(*model.Service) bool { return true }},
		{api.ServiceQuery{Protocol: "udp"}, func(s *model.Service) bool { return s.Protocol == model.UDP }},
		{api.ServiceQuery{Pool: "pool 4/%"}, func(s *model.Service) bool { return s.Pool == "pool 4/%" }},
		{api.ServiceQuery{VIP: &vip}, func(s *model.Service) bool { return s.VIP == vip }},
		{api.ServiceQuery{Pool: "absent"}, func(*model.Service) bool { return false }},
	} {
		var want []string
		for i := range state.Services {
			if c.has(&state.Services[i]) {
				want = append(want, state.Services[i].Name)
			}
		}
		slices.Sort(want)
		for _, limit := range []int{1, 7, 100, 1000} {
			var got []string
			c.query.Limit, c.query.After = limit, ""
			for {
				page, err := n.Services(t.Context(), c.query)
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Services) > limit {
					t.Errorf("a page of %d has %d", limit, len(page.Services))
				}
				for _, s := range page.Services {
					got = append(got, s.Name)
					if s.Total != 3 || s.Up != 2 || (len(s.Backends) == 3) != c.query.Backends {
						t.Errorf("%+v", s)
					}
				}
				if c.query.After = page.Next; page.Next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v, %d at once: got %q, want %q", c.query, limit, got, want)
			}
		}
	}
}

// TestBackendPages asserts the same of backends, and what is said of queries for
// what is not there.
func TestBackendPages(t *testing.T) {
	n := listed(t, manyServices(30, 5))
	list := func(q api.BackendQuery) (got []string) {
		t.Helper()
		for {
			page, err := n.Backends(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Backends) > q.Limit {
				t.Errorf("a page of %d has %d", q.Limit, len(page.Backends))
			}
			for _, b := range page.Backends {
				got = append(got, b.Pool+" "+b.Name+" "+b.State)
				if b.Services != 1+poolNumber(b.Pool)%3 { // the second of every three has another's service too
					t.Errorf("%+v", b)
				}
			}
			if q.After = page.Next; page.Next == "" {
				return got
			}
		}
	}
	all := list(api.BackendQuery{Limit: 1000})
	if len(all) != 20*5 || !slices.IsSorted(all) {
		t.Fatalf("%d backends: %q", len(all), all)
	}
	for _, limit := range []int{1, 3, 5, 99, 100} {
		if got := list(api.BackendQuery{Limit: limit}); !reflect.DeepEqual(got, all) {
			t.Errorf("%d at once: %q", limit, got)
		}
	}
	one := []string{"pool 4/% b/0 up", "pool 4/% b/2 up", "pool 4/% b/3 up", "pool 4/% b/4 up", "pool 4/% lost unresolved"}
	for _, q := range []api.BackendQuery{{Pool: "pool 4/%"}, {Service: "service 4"}, {Service: "service 5"}, {Service: "service 5", Pool: "pool 4/%"}} {
		q.Limit = 2
		if got := list(q); !slices.Equal(got, one) {
			t.Errorf("%+v: %q", q, got)
		}
	}
	if got := list(api.BackendQuery{Service: "service 4", State: "unresolved", Limit: 1}); !slices.Equal(got, one[4:]) {
		t.Errorf("unresolved: %q", got)
	}
	for _, c := range []struct {
		query api.BackendQuery
		code  api.Code
		want  string
	}{
		{api.BackendQuery{Pool: "absent"}, api.NotFound, `there is no pool "absent"`},
		{api.BackendQuery{Service: "absent"}, api.NotFound, `there is no service "absent"`},
		{api.BackendQuery{After: "nonsense"}, api.BadRequest, `parameter "after": "nonsense" is not the next of a page`},
		{api.BackendQuery{After: "%zz/a"}, api.BadRequest, `parameter "after": "%zz/a" is not the next of a page`},
	} {
		c.query.Limit = 10
		_, err := n.Backends(t.Context(), c.query)
		if e, is := errors.AsType[*api.Error](err); !is || e.Code != c.code || e.Message != c.want {
			t.Errorf("%+v: %v, want %s", c.query, err, c.want)
		}
	}
}

func poolNumber(name string) (n int) {
	fmt.Sscanf(name, "pool %d", &n)
	return n
}

// BenchmarkBackendPages lists a node of 10,000 services and a million backends,
// a page at a time.
func BenchmarkBackendPages(b *testing.B) {
	s := manyServices(1000, 100)
	n := listed(b, s)
	b.ReportAllocs()
	for b.Loop() {
		page, err := n.Backends(b.Context(), api.BackendQuery{Limit: api.MaxPage, After: "pool 400%2F%25/"})
		if err != nil || len(page.Backends) != api.MaxPage {
			b.Fatal(err, len(page.Backends))
		}
	}
}
