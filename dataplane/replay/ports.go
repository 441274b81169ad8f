package replay

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
)

// ports finds out which interface a captured frame arrives on.
type ports struct {
	byMAC  map[[6]byte]uint16
	byName map[string]uint16
}

func portsOf(s *fib.Snapshot) *ports {
	p := &ports{byMAC: make(map[[6]byte]uint16), byName: make(map[string]uint16)}
	for i := range s.Interfaces() {
		in := s.Interface(uint16(i))
		if _, taken := p.byMAC[in.MAC]; !taken {
			p.byMAC[in.MAC] = uint16(i)
		}
		p.byName[s.Name(in.Name)] = uint16(i)
	}
	return p
}

// of is the interface with the frame's destination address, else the one that
// it was captured on, else the first.
func (p *ports) of(frame []byte, captured string) uint16 {
	if len(frame) >= packet.EthernetLen {
		if port, ok := p.byMAC[packet.Ethernet(frame).DstMAC()]; ok {
			return port
		}
	}
	return p.byName[captured]
}
