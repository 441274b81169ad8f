package preflight

import (
	"encoding/pem"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
)

// health finds what keeps backends from being checked. The node runs without
// that, and takes them to be what was last known of them.
func (c *checker) health() {
	tunnel := false
	for i := range c.cfg.State.Pools {
		p := &c.cfg.State.Pools[i]
		if p.Check == nil {
			continue
		}
		subject := "health checks of pool " + p.Name
		c.checkSource(subject, p.Check.Source)
		c.checkFiles(subject, p.Check)
		tunnel = tunnel || c.tunneled(p)
	}
	if !tunnel {
		return
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0) // makes no device yet
	if err != nil {
		c.add(Warning, "/dev/net/tun", "checks of backends with ipip, gue and l2 cannot be made without it: %v", err)
		c.do("load the module tun and let the user of Fairlead open the device, or set path = \"direct\" in [pool.health]", "modprobe tun && chmod 0666 /dev/net/tun")
		return
	}
	unix.Close(fd)
}

// tunneled reports whether a pool's backends are checked by a method other than
// nat.
func (c *checker) tunneled(p *model.Pool) bool {
	if p.Check.Path == model.PathDirect || p.Check.Type == model.CheckExec {
		return false
	}
	for i := range c.cfg.State.Services {
		if s := &c.cfg.State.Services[i]; s.Pool == p.Name && s.Method != model.NAT {
			return true
		}
	}
	return false
}

// checkSource demands that the host has the address that checks come from.
func (c *checker) checkSource(subject string, a netip.Addr) {
	if !a.IsValid() || a.IsLoopback() {
		return
	}
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return // reported with the addresses
	}
	for i := range list {
		if own, ok := netip.AddrFromSlice(list[i].IP); ok && own.Unmap() == a {
			return
		}
	}
	c.add(Warning, subject, "they cannot be made: their source %s is not an address of this host", a)
}

// checkFiles looks at what a check reads or runs.
func (c *checker) checkFiles(subject string, k *model.Check) {
	if name := k.TLS.CAFile; name != "" && k.UsesTLS() {
		data, err := os.ReadFile(name)
		block, _ := pem.Decode(data)
		switch {
		case err != nil:
			c.add(Warning, subject, "they cannot be made: ca_file: %v", err)
		case block == nil:
			c.add(Warning, subject, "they cannot be made: ca_file: %s has no certificate in PEM form", name)
		}
	}
	if k.Type == model.CheckExec && len(k.Exec) > 0 {
		if info, err := os.Stat(k.Exec[0]); err != nil {
			c.add(Warning, subject, "they cannot be made: %v", err)
		} else if info.IsDir() || info.Mode()&0o111 == 0 {
			c.add(Warning, subject, "they cannot be made: %s is not a program", k.Exec[0])
		}
	}
}
