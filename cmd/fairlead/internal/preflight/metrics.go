package preflight

import "crypto/tls"

// metrics checks the certificate that metrics are served with.
func (c *checker) metrics() {
	m := &c.cfg.Metrics
	if m.TLSCert == "" {
		return
	}
	if _, err := tls.LoadX509KeyPair(m.TLSCert, m.TLSKey); err != nil {
		c.add(Error, "[metrics]", "certificate: %v", err)
	}
}
