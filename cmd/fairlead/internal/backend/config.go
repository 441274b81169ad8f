// Package backend makes a machine a backend for as long as a process runs: it
// takes tunnel headers off by XDP and gives the machine the VIPs, and undoes
// all of it at the end.
package backend

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"fairlead/xdp/decap"
)

// ModeNone is the mode without a program: for services of method l2, which
// need the VIPs and nothing else.
const ModeNone decap.Mode = "none"

// Config says what the machine is a backend for.
type Config struct {
	Interfaces []string       // where packets from load balancers arrive
	VIPs       []netip.Addr   // virtual addresses to serve; without any, every tunnel packet is taken
	From       []netip.Prefix // load balancers' addresses; without any, tunnel packets from anywhere are taken
	GUEPort    uint16         // UDP port of GUE
	Mode       decap.Mode     // where the program runs, or ModeNone
	PinPath    string         // directory that keeps the program when the process is killed; "": none does
	Report     time.Duration  // how often counters are logged; 0: at the end only
}

// ParseConfig makes a configuration of what was given on the command line. Its
// error names everything that is wrong, one line each.
func ParseConfig(interfaces, vips, from []string, guePort uint16, mode, pin string, report time.Duration) (*Config, error) {
	c := &Config{GUEPort: guePort, Mode: decap.Mode(mode), PinPath: pin, Report: report}
	errs := []error{c.addInterfaces(interfaces)}
	for _, s := range vips {
		errs = append(errs, c.addVIP(s))
	}
	for _, s := range from {
		errs = append(errs, c.addSource(s))
	}
	if c.GUEPort == 0 {
		errs = append(errs, errors.New("--gue-port 0: it must be 1 to 65535"))
	}
	modes := []decap.Mode{decap.ModeAuto, decap.ModeNative, decap.ModeGeneric, ModeNone}
	if !slices.Contains(modes, c.Mode) {
		errs = append(errs, fmt.Errorf("--mode %s: it must be auto, native, generic or none", mode))
	}
	if c.Mode == ModeNone && len(vips) == 0 {
		errs = append(errs, errors.New("--mode none without --vip leaves nothing to do"))
	}
	if c.Mode == ModeNone && len(from) > 0 {
		errs = append(errs, errors.New("--mode none checks no packet: --from has no effect with it"))
	}
	if c.Mode == ModeNone && pin != "" {
		errs = append(errs, errors.New("--mode none has no program: --pin has no effect with it"))
	}
	if report < 0 {
		errs = append(errs, fmt.Errorf("--report %v: it must not be negative", report))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) addInterfaces(names []string) error {
	for _, name := range names {
		if name != "" && !slices.Contains(c.Interfaces, name) {
			c.Interfaces = append(c.Interfaces, name)
		}
	}
	if len(c.Interfaces) == 0 {
		return errors.New("--interface is needed: name the interface that load balancers' packets arrive on")
	}
	return nil
}

func (c *Config) addVIP(s string) error {
	vip, err := parseAddr(s)
	if err != nil {
		return fmt.Errorf("--vip %w", err)
	}
	if vip.IsUnspecified() || vip.IsMulticast() || vip.IsLoopback() || vip.IsLinkLocalUnicast() {
		return fmt.Errorf("--vip %s: not an address that clients can reach", s)
	}
	if !slices.Contains(c.VIPs, vip) {
		c.VIPs = append(c.VIPs, vip)
	}
	return nil
}

// addSource takes a prefix, or an address that stands for itself.
func (c *Config) addSource(s string) error {
	p, err := parsePrefix(s)
	if err != nil {
		return fmt.Errorf("--from %w", err)
	}
	if !slices.Contains(c.From, p) {
		c.From = append(c.From, p)
	}
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		a, err := parseAddr(s)
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%s: not an IP address or prefix", s)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s: IPv4-mapped; write it as an IPv4 prefix", s)
	case p != p.Masked():
		return p, fmt.Errorf("%s: bits are set after the prefix; write it as %s", s, p.Masked())
	}
	return p, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%s: not an IP address", s)
	case a.Zone() != "":
		return a, fmt.Errorf("%s: has a zone; write the plain address", s)
	case a.Is4In6():
		return a, fmt.Errorf("%s: IPv4-mapped; write it as %s", s, a.Unmap())
	}
	return a, nil
}
