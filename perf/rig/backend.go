package rig

import (
	"net/netip"

	"fairlead/perf/lab"
	"fairlead/xdp/decap"
)

// Own makes a host a backend for methods that leave the VIP in the packet: it
// owns the VIPs without telling the segment. Undone when the lab is closed.
func Own(b *lab.Node, vips ...netip.Addr) error {
	var owned *decap.Host
	err := b.Do(func() (err error) {
		owned, err = decap.SetupHost(b.Interface.Name, vips)
		return err
	})
	if err != nil {
		return err
	}
	b.Lab().OnClose(func() error { return b.Do(owned.Close) })
	return nil
}

// Decapsulate attaches the decapsulation program to a host's interface, as
// `fairlead backend` does. Detached when the lab is closed.
func Decapsulate(b *lab.Node, cfg decap.Config) (*decap.Decap, error) {
	var d *decap.Decap
	err := b.Do(func() (err error) {
		d, err = decap.Attach(b.Interface.Index, b.Interface.Name, cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.Lab().OnClose(d.Close)
	return d, nil
}
