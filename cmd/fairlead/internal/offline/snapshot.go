// Package offline is what can be done with a configuration without the machine
// it is for: compile it from the file's own facts, and rehearse with it.
package offline

import (
	"errors"
	"fmt"
	"net/netip"

	"fairlead/configs"
	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// Generation is the generation of the only snapshot there is.
const Generation = 1

// ErrNoInterface says that a configuration names no interface, and so packets
// can neither come nor go.
var ErrNoInterface = errors.New("no interface is configured: name at least one in [[interface]]")

// Snapshot compiles a configuration with the interfaces and next hops that the
// file itself gives. Warnings are what keeps traffic from flowing, such as a
// backend without a next hop.
func Snapshot(cfg *configs.Config) (s *fib.Snapshot, warnings []string, err error) {
	if len(cfg.Interfaces) == 0 {
		return nil, nil, ErrNoInterface
	}
	return open(cfg, Observations(cfg))
}

// Check compiles a configuration and gives the warnings that come of the file
// itself: a way to each backend is taken for granted, as the machine that the
// file is for may know one.
func Check(cfg *configs.Config) (warnings []string, err error) {
	obs := Observations(cfg)
	if len(obs.Interfaces) == 0 {
		obs.Interfaces = []model.Interface{{Name: "any"}}
	}
	for i := range cfg.State.Pools {
		for _, b := range cfg.State.Pools[i].Backends {
			obs.NextHops[b.Address] = model.NextHop{Interface: obs.Interfaces[0].Name, Resolved: true}
		}
	}
	for i := range obs.Interfaces {
		obs.Interfaces[i].Gateway = netip.Addr{}
	}
	_, warnings, err = open(cfg, obs)
	return warnings, err
}

func open(cfg *configs.Config, obs *model.Observations) (s *fib.Snapshot, warnings []string, err error) {
	compiled, err := compile.Compile(&cfg.State, obs, nil, compile.Options{})
	if err != nil {
		return nil, nil, err
	}
	image, err := compiled.Builder.Encode(Generation)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the image: %w", err)
	}
	if s, err = fib.Open(image); err != nil {
		return nil, nil, fmt.Errorf("open the image: %w", err)
	}
	return s, compiled.Warnings, nil
}

// Observations are what the file says of interfaces and next hops, completed
// where it says nothing: an interface without an address has InterfaceMAC, and
// a backend that is no [[neighbor]] is behind the first gateway of its family.
func Observations(cfg *configs.Config) *model.Observations {
	obs := cfg.StaticObservations()
	for i := range obs.Interfaces {
		if in := &obs.Interfaces[i]; in.MAC == ([6]byte{}) {
			in.MAC = InterfaceMAC(i)
		}
	}
	for i := range cfg.State.Pools {
		for _, b := range cfg.State.Pools[i].Backends {
			if _, known := obs.NextHops[b.Address]; known {
				continue
			}
			if way, ok := gateway(obs, b.Address.Is4()); ok {
				obs.NextHops[b.Address] = way
			}
		}
	}
	return obs
}

// InterfaceMAC is the address of the i-th interface, counted from 0, when the
// file gives none: locally administered, 02:00:00:00:00:01 for the first.
func InterfaceMAC(i int) [6]byte { return [6]byte{0x02, 4: byte((i + 1) >> 8), 5: byte(i + 1)} }

// gateway is the way to the first gateway of a family. Its address is not known
// when it is no [[neighbor]].
func gateway(obs *model.Observations, is4 bool) (model.NextHop, bool) {
	for i := range obs.Interfaces {
		in := &obs.Interfaces[i]
		if in.Gateway == (netip.Addr{}) || in.Gateway.Is4() != is4 {
			continue
		}
		if way, ok := obs.NextHops[in.Gateway]; ok {
			return way, true
		}
		return model.NextHop{Interface: in.Name}, true
	}
	return model.NextHop{}, false
}
