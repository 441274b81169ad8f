package compile

import (
	"cmp"
	"slices"

	"fairlead/controlplane/model"
	"fairlead/dataplane/maglev"
	"fairlead/dataplane/packet"
)

// end is where a backend is reached.
type end struct {
	addr packet.Addr
	port uint16
}

func endOf(b *model.Backend) end { return end{addr(b.Address), b.Port} }

// compare orders as netip.AddrPort does: IPv4 first, by address, by port.
func (a end) compare(b end) int {
	switch {
	case a.addr == b.addr:
		return cmp.Compare(a.port, b.port)
	case a.addr.Is4() != b.addr.Is4():
		if a.addr.Is4() {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.addr.Hi, b.addr.Hi), cmp.Compare(a.addr.Lo, b.addr.Lo))
}

// member is one backend on its way into a pool's record.
type member struct {
	*model.Backend
	end      end
	draining bool
}

// chosen reports whether the member gets new flows.
func (m *member) chosen() bool {
	return !m.draining && m.Weight > 0 && !m.Serving.Down && m.Serving.Withheld < maglev.FullShare
}

// appendMembers brings a pool's backends into an order that does not depend on
// the configuration's: those that the pool has first, then those that drain,
// each part by address and port. So pools that are equal have equal tables. A draining
// backend that serves again is left out.
func appendMembers(out []member, backends, draining []model.Backend) []member {
	from := len(out)
	for i := range backends {
		out = append(out, member{Backend: &backends[i], end: endOf(&backends[i])})
	}
	if len(draining) > 0 {
		there := make(map[end]bool, len(out)-from)
		for i := range out[from:] {
			there[out[from+i].end] = true
		}
		for i := range draining {
			if e := endOf(&draining[i]); !there[e] {
				there[e] = true
				out = append(out, member{Backend: &draining[i], end: e, draining: true})
			}
		}
	}
	slices.SortFunc(out[from:], func(a, b member) int {
		if a.draining != b.draining {
			if b.draining {
				return -1
			}
			return 1
		}
		return a.end.compare(b.end)
	})
	return out
}
