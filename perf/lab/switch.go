package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// bridgeName is the bridge inside a switch's namespace.
const bridgeName = "br0"

// Switch is an Ethernet segment: a bridge in a namespace of its own, so that
// hosts on it see nothing but each other. Its ports are named after the hosts.
type Switch struct {
	host *Host
}

// AddSwitch makes a switch without ports.
func (l *Lab) AddSwitch(name string) (*Switch, error) {
	h, err := l.AddHost(name)
	if err != nil {
		return nil, err
	}
	s := &Switch{host: h}
	if err := s.createBridge(); err != nil {
		return nil, fmt.Errorf("switch %s: %w", name, err)
	}
	return s, nil
}

func (s *Switch) createBridge() error {
	// The switch itself never speaks: without IPv6 it sends no multicast
	// listener reports into the segment.
	if err := s.host.Sysctl("net.ipv6.conf.all.disable_ipv6", "1"); err != nil {
		return err
	}
	if err := s.host.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	attrs.HardwareAddr = s.host.lab.mac()
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := s.host.link.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := s.host.link.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bridge up: %w", err)
	}
	return nil
}

// Host is the switch's namespace, for looking at what passes there.
func (s *Switch) Host() *Host { return s.host }

// Plug joins a host to the segment and returns the host's end of the cable.
func (s *Switch) Plug(h *Host, ifname string, cfg LinkConfig) (*Interface, error) {
	end, port, err := h.lab.Cable(h, ifname, s.host, h.Name, cfg)
	if err != nil {
		return nil, err
	}
	bridge, err := s.host.link.LinkByName(bridgeName)
	if err != nil {
		return nil, fmt.Errorf("switch %s: %w", s.host.Name, err)
	}
	err = port.change("joining the bridge", func(l netlink.Link) error {
		return s.host.link.LinkSetMaster(l, bridge)
	})
	return end, err
}
