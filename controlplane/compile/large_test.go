package compile

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// large is a state of n services on as many VIPs, each with a pool of its own
// of so many backends.
func large(n, backends int) (*model.State, *model.Observations) {
	s := &model.State{SNATs: []model.SNAT{{Address: ip("198.19.255.1")}}}
	obs := &model.Observations{
		Interfaces: []model.Interface{{Name: "eth0", Index: 2, MTU: 1500, MAC: mac(1)}},
		NextHops:   make(map[netip.Addr]model.NextHop, backends*n),
	}
	for i := range n {
		p := model.Pool{Name: fmt.Sprintf("namespace/service-%d", i)}
		for j := range backends {
			b := model.Backend{Address: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j + 1)}), Port: 8080, Weight: 1}
			p.Backends = append(p.Backends, b)
			obs.NextHops[b.Address] = model.NextHop{Interface: "eth0", MAC: mac(byte(i)), Resolved: true}
		}
		s.Pools = append(s.Pools, p)
		s.Services = append(s.Services, model.Service{
			Name: p.Name, VIP: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i) | 1}), Protocol: model.TCP,
			Ports: model.PortRange{First: uint16(80 + i&1), Last: uint16(80 + i&1)}, Pool: p.Name, Method: model.NAT,
		})
	}
	return s, obs
}

// TestLargeImage: 10,000 services with 10 backends each, all different, are an
// image of less than 40 MiB, and a change of one pool builds one table.
func TestLargeImage(t *testing.T) {
	state, obs := large(10000, 10)
	cache := &maglev.Cache{}
	first, s := compile(t, state, obs, nil, Options{Tables: cache})
	if s.Size() > 40<<20 {
		t.Errorf("the image has %d bytes", s.Size())
	}
	t.Logf("the image has %.1f MiB", float64(s.Size())/(1<<20))
	if cache.Built() != 10000 {
		t.Errorf("%d tables were built, want 10000", cache.Built())
	}
	state.Pools[77].Backends = state.Pools[77].Backends[1:]
	second, s := compile(t, state, obs, first.IDs, Options{Tables: cache})
	if cache.Built() != 10001 || cache.Len() != 10000 {
		t.Errorf("after one change %d tables were built and %d are remembered, want 10001 and 10000", cache.Built(), cache.Len())
	}
	if len(second.Warnings) != 0 || len(s.NextHops()) != 256 {
		t.Errorf("warnings are %q, next hops %d", second.Warnings, len(s.NextHops()))
	}
}

// BenchmarkCompile is what an image costs from nothing, and again when one pool
// of it is another, by stage: valid, compiled, encoded with the verification
// that the control process makes, opened with that of the data process.
func BenchmarkCompile(b *testing.B) {
	for _, size := range []struct{ services, backends int }{{10, 10}, {10000, 10}, {10000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.backends), func(b *testing.B) {
			state, obs := large(size.services, size.backends)
			cache := &maglev.Cache{}
			first, err := Compile(state, obs, nil, Options{Tables: cache})
			if err != nil {
				b.Fatal(err)
			}
			images, err := fib.NewImages(first.Builder, 1)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { images.Close() })
			run := func(name string, f func() error) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					before := processTime(b)
					for b.Loop() {
						if err := f(); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64((processTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
				})
			}
			run("validate", func() error { return errors.Join(model.Validate(state)...) })
			run("nothing", func() error {
				_, err := Compile(state, obs, nil, Options{})
				return err
			})
			n := 0
			run("again", func() error {
				n++
				state.Pools[n%size.services].Backends[0].Weight = 1 + n%2
				_, err := Compile(state, obs, first.IDs, Options{Tables: cache})
				return err
			})
			run("encode", func() error {
				m, err := fib.NewImages(first.Builder, 1)
				if err != nil {
					return err
				}
				return m.Close()
			})
			run("open", func() error {
				m, err := fib.MapImage(images.FD())
				if err != nil {
					return err
				}
				_, err = m.Open()
				return errors.Join(err, m.Close())
			})
		})
	}
}

// processTime is how long the process was on any CPU.
func processTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
