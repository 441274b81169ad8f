package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file, _ = a.sign(name, template)
	return a
}

// sign makes a certificate, and gives the files of it and of its key. The first
// is the authority's own.
func (a *authority) sign(name string, template *x509.Certificate) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.cert == nil {
		a.cert, a.key = template, private
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == template {
		if a.cert, err = x509.ParseCertificate(encoded); err != nil {
			a.t.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: encoded}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) server(name string) (cert, key string) {
	return a.sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func (a *authority) client(t *testing.T, server, name string, template *x509.Certificate) *Client {
	t.Helper()
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key := a.sign(name, template)
	c, err := NewTLSClient(server, cert, key, a.file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// freePort is a port that nobody has at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestMutualTLS asserts who may do what on TCP, that nobody gets in without a
// certificate of the right authority, and that renewed files are taken without
// a restart, broken ones not.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := newAuthority(t, dir, "ours"), newAuthority(t, dir, "theirs")
	cert, key := ours.server("node")
	listen := freePort(t)
	server := "https://" + listen
	said := &logged{}
	stop := serveConfig(t, Config{Log: said.logger(), TCP: &TCP{
		Listen: listen, Cert: cert, Key: key, ClientCA: ours.file,
		Operators: []string{"ou:ops", "uri:spiffe://site/deploy"}, Readers: []string{"dns:monitor.example", "cn:Alice"},
	}}, newFixed())
	spiffe, err := url.Parse("spiffe://site/deploy")
	if err != nil {
		t.Fatal(err)
	}
	first := ours.client(t, server, "ops1", &x509.Certificate{Subject: pkix.Name{CommonName: "ops1", OrganizationalUnit: []string{"other", "ops"}}})
	ask(t, first)
	for _, c := range []struct {
		name     string
		template x509.Certificate
		want     Role
	}{
		{"unit", x509.Certificate{Subject: pkix.Name{CommonName: "bob", OrganizationalUnit: []string{"ops"}}}, Operator},
		{"uri", x509.Certificate{URIs: []*url.URL{spiffe}}, Operator},
		{"dns", x509.Certificate{Subject: pkix.Name{CommonName: "m"}, DNSNames: []string{"monitor.example"}}, ReadOnly},
		{"name", x509.Certificate{Subject: pkix.Name{CommonName: "Alice"}}, ReadOnly},
		{"neither", x509.Certificate{Subject: pkix.Name{CommonName: "ops", OrganizationalUnit: []string{"Alice"}}}, Nobody},
	} {
		client := ours.client(t, server, c.name, &c.template)
		_, looked := client.Summary(t.Context())
		_, changed := client.Profile(t.Context(), 1)
		for _, of := range []struct {
			err   error
			needs Role
		}{{looked, ReadOnly}, {changed, Operator}} {
			e, _ := errors.AsType[*Error](of.err)
			if allowed := of.err == nil; allowed != (c.want >= of.needs) || !allowed && (e == nil || e.Code != Forbidden) {
				t.Errorf("%s, what needs %s: %v", c.name, of.needs, of.err)
			}
		}
	}
	if !strings.Contains(said.String(), `caller="cn:bob (127.0.0.1:`) || !strings.Contains(said.String(), `caller="uri:spiffe://site/deploy (127.0.0.1:`) {
		t.Errorf("operators are not in the log:\n%s", said)
	}

	wrong := theirs.client(t, server, "wrong", &x509.Certificate{Subject: pkix.Name{CommonName: "Alice", OrganizationalUnit: []string{"ops"}}})
	authorities, err := loadPool(ours.file)
	if err != nil {
		t.Fatal(err)
	}
	wrong.http.Transport.(*http.Transport).TLSClientConfig.RootCAs = authorities
	if _, err := wrong.Summary(t.Context()); !unreachable(err) {
		t.Errorf("another authority's certificate: %v", err)
	}
	plain, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	plain.Write([]byte("GET /v1/status HTTP/1.0\r\n\r\n"))
	if text, _ := io.ReadAll(plain); strings.Contains(string(text), "lb1") {
		t.Errorf("without TLS: %s", text)
	}
	plain.Close()
	bare, err := tls.Dial("tcp", listen, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		bare.Write([]byte("GET /v1/status HTTP/1.0\r\n\r\n"))
		if text, _ := io.ReadAll(bare); len(text) > 0 {
			t.Errorf("without a certificate: %s", text)
		}
		bare.Close()
	}

	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Summary(t.Context()); err != nil || !strings.Contains(said.String(), "changed certificates cannot be used") {
		t.Errorf("a broken file: %v\n%s", err, said)
	}
	next := newAuthority(t, dir, "next")
	nextCert, nextKey := next.server("renewed")
	for from, to := range map[string]string{nextCert: cert, nextKey: key, next.file: ours.file} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	next.file = ours.file
	if _, err := next.client(t, server, "ops2", &x509.Certificate{Subject: pkix.Name{OrganizationalUnit: []string{"ops"}}}).Summary(t.Context()); err != nil {
		t.Errorf("after the renewal: %v\n%s", err, said)
	}
	if _, err := first.Summary(t.Context()); !unreachable(err) {
		t.Errorf("the authority before still counts: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func unreachable(err error) bool {
	_, is := errors.AsType[*UnreachableError](err)
	return is
}

// TestNotMutual asserts that there is no listener without mutual TLS, whatever
// the configuration had let through.
func TestNotMutual(t *testing.T) {
	for _, c := range []struct {
		tcp  TCP
		want string
	}{
		{TCP{Listen: "127.0.0.1:0", Cert: "c", Key: "k"}, "admin API: the admin API on TCP needs a certificate, its key, and the authority of clients' certificates"},
		{TCP{Listen: "127.0.0.1:0", Cert: "c", Key: "k", ClientCA: "a", Readers: []string{"bob"}}, `admin API: "bob" names nobody: write cn:, ou:, dns:, email:, uri: or ip: and the name in the certificate`},
		{TCP{Listen: "127.0.0.1:0", Cert: "absent", Key: "k", ClientCA: "a"}, "admin API: stat absent: no such file or directory"},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		err := Serve(t.Context(), Config{Socket: socket, TCP: &c.tcp, Log: slog.New(slog.DiscardHandler)}, newFixed())
		if err == nil || err.Error() != c.want {
			t.Errorf("%v\nwant %s", err, c.want)
		}
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

// TestNoServer asserts what is said of a server that is none.
func TestNoServer(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, dir, "a")
	cert, key := a.server("s")
	for server, want := range map[string]string{
		"http://127.0.0.1:1":      `"http://127.0.0.1:1" is no server; write https://HOST:PORT`,
		"127.0.0.1:1":             `"127.0.0.1:1" is no server; write https://HOST:PORT`,
		"https://127.0.0.1/v1?a":  `"https://127.0.0.1/v1?a" is no server; write https://HOST:PORT`,
		"https://127.0.0.1:1/../": `"https://127.0.0.1:1/../" is no server; write https://HOST:PORT`,
	} {
		if _, err := NewTLSClient(server, cert, key, a.file); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := NewTLSClient("https://127.0.0.1:1", cert, key, key); err == nil || err.Error() != key+" has no certificate in PEM" {
		t.Errorf("%v", err)
	}
	c, err := NewTLSClient("https://127.0.0.1:1", cert, key, a.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Summary(t.Context()); !unreachable(err) || !strings.HasPrefix(err.Error(), "ask the node at https://127.0.0.1:1 (does it run, and does each end know the other's authority?): ") {
		t.Errorf("%v", err)
	}
}
