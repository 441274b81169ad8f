package preflight

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestMetricsCertificate asserts that a certificate for metrics that cannot be
// read keeps the node from running.
func TestMetricsCertificate(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.pem")
	c := &checker{cfg: parse(t, fmt.Sprintf("[metrics]\nlisten = \"127.0.0.1:9480\"\ntls_cert = %q\ntls_key = %q\n", none, none))}
	c.metrics()
	compare(t, c.found, "error: [metrics]: certificate: open "+none+": no such file or directory")
	c = &checker{cfg: parse(t, "[metrics]\nlisten = \"127.0.0.1:9480\"\n")}
	c.metrics()
	compare(t, c.found)
}
