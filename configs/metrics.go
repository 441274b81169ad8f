package configs

import (
	"net/netip"
	"path"
)

// Metrics is what Prometheus is served, and where besides the admin API's
// socket.
type Metrics struct {
	Listen          string // address and port of a TCP listener; empty: none
	TLSCert, TLSKey string // PEM files, both or none; none: plain HTTP
	Backends        bool   // series of single backends
	BackendLimit    int    // backends beyond which none has series
}

const (
	maxBackendLimit = 10_000_000
	maxLogRate      = 1_000_000
)

func defaultMetrics() Metrics { return Metrics{Backends: true, BackendLimit: 50_000} }

func (r *reader) metrics(t *table, m *Metrics) {
	m.Listen = t.text("listen", m.Listen)
	if m.Listen != "" {
		if at, err := netip.ParseAddrPort(m.Listen); err != nil || at.Port() == 0 {
			t.refuse("listen", `%q is no address with a port; write it as "127.0.0.1:9480" or "[::]:9480"`, m.Listen)
		}
	}
	m.TLSCert, m.TLSKey = t.text("tls_cert", ""), t.text("tls_key", "")
	for _, file := range []struct{ key, path string }{{"tls_cert", m.TLSCert}, {"tls_key", m.TLSKey}} {
		if file.path != "" && !path.IsAbs(file.path) {
			t.refuse(file.key, "%q is not an absolute path", file.path)
		}
	}
	switch {
	case t.bad:
	case m.TLSCert == "" && m.TLSKey != "":
		t.refuse("tls_key", "needs tls_cert")
	case m.TLSCert != "" && m.TLSKey == "":
		t.refuse("tls_cert", "needs tls_key")
	case m.TLSCert != "" && m.Listen == "":
		t.refuse("tls_cert", "is for listen, which is not given")
	}
	m.Backends = t.flag("backends", m.Backends)
	m.BackendLimit = t.integer("backend_limit", m.BackendLimit, 1, maxBackendLimit)
	t.finish()
}

// logLimits reads how many log lines of one message are written.
func (r *reader) logLimits(t *table, n *Node) {
	n.LogRate = t.integer("log_rate", n.LogRate, 0, maxLogRate)
	n.LogBurst = t.integer("log_burst", n.LogBurst, 1, maxLogRate)
}
