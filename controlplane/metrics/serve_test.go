package metrics

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen serves until the test ends and returns how it ended.
func listen(t *testing.T, s Server) (*Listener, func() error) {
	t.Helper()
	s.Listen = "127.0.0.1:0"
	l, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	t.Cleanup(cancel)
	return l, func() error { cancel(); return <-ended }
}

func client(t *testing.T, config *tls.Config) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// TestServe asserts what is answered over TCP: the metrics, to be read, and
// nothing else.
func TestServe(t *testing.T) {
	l, stop := listen(t, Server{Handler: handler(t, Config{Source: small()})})
	c := client(t, nil)
	for _, q := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"DELETE", "/metrics", 405},
		{"GET", "/", 404}, {"GET", "/metrics/", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/v1/status", 404},
	} {
		r, err := http.NewRequest(q.method, "http://"+l.Addr().String()+q.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != q.code {
			t.Errorf("%s %s: %s, %v", q.method, q.path, answer.Status, err)
		}
		if has := strings.Contains(string(body), "fairlead_generation_published 7"); has != (q.method == "GET" && q.code == 200) {
			t.Errorf("%s %s says %s", q.method, q.path, body)
		}
	}
	if _, err := Open(Server{Listen: l.Addr().String()}); err == nil || err.Error() != "metrics: listen tcp "+l.Addr().String()+": bind: address already in use" {
		t.Errorf("error %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestReaderThatDoesNotRead asserts that an answer that nobody reads is given up.
func TestReaderThatDoesNotRead(t *testing.T) {
	h, ended := handler(t, Config{Source: large(1000, 20), Backends: true, Timeout: 200 * time.Millisecond}), make(chan struct{})
	l, stop := listen(t, Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(w, r)
	})})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the answer that nobody reads is still in flight")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// certificate writes a certificate and its key, with a serial number.
func certificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "lb1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "m.crt"), filepath.Join(dir, "m.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: bytes}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestTLS asserts that a certificate is used, and its successor when it is
// renewed.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, 1)
	l, stop := listen(t, Server{Handler: handler(t, Config{Source: small()}), TLSCert: cert, TLSKey: key})
	for _, serial := range []int64{1, 2} {
		certificate(t, dir, serial)
		pool := x509.NewCertPool()
		text, err := os.ReadFile(cert)
		if err != nil || !pool.AppendCertsFromPEM(text) {
			t.Fatal(err)
		}
		answer, err := client(t, &tls.Config{RootCAs: pool}).Get("https://" + l.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.TLS.PeerCertificates[0].SerialNumber.Int64(); got != serial || answer.StatusCode != 200 {
			t.Errorf("certificate %d, %s", got, answer.Status)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	_, err := Open(Server{Listen: "127.0.0.1:0", TLSCert: filepath.Join(dir, "none"), TLSKey: key})
	if want := "metrics: certificate: open " + filepath.Join(dir, "none") + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
