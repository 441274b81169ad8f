package preflight

import "fairlead/controlplane/announce/bgp"

// bgp looks whether the passwords of BGP sessions can be read.
func (c *checker) bgp() {
	for i := range c.cfg.BGP.Peers {
		p := &c.cfg.BGP.Peers[i]
		if p.PasswordFile == "" {
			continue
		}
		if err := bgp.CheckPassword(p.PasswordFile); err != nil {
			c.add(Error, "[[bgp.peer]] "+p.Name(), "password file %s: %v", p.PasswordFile, err)
		}
	}
}
