package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// TCP is the admin API on TCP. Both ends show certificates: there is no other
// way to use it.
type TCP struct {
	Listen             string // address and port
	Cert, Key          string // PEM files of the node's own certificate and key
	ClientCA           string // PEM file of the authorities that sign clients' certificates
	Operators, Readers []string
}

// names are what a certificate says of its holder, as Operators and Readers
// spell it: "cn:...", "ou:...", "dns:...", "email:...", "uri:...", "ip:...".
func names(c *x509.Certificate) []string {
	list := []string{"cn:" + c.Subject.CommonName}
	for _, unit := range c.Subject.OrganizationalUnit {
		list = append(list, "ou:"+unit)
	}
	for _, name := range c.DNSNames {
		list = append(list, "dns:"+name)
	}
	for _, name := range c.EmailAddresses {
		list = append(list, "email:"+name)
	}
	for _, name := range c.URIs {
		list = append(list, "uri:"+name.String())
	}
	for _, ip := range c.IPAddresses {
		list = append(list, "ip:"+ip.String())
	}
	return list
}

// caller names the holder of a certificate, and says what it may do: nothing
// when it is in neither list.
func (t *TCP) caller(c *x509.Certificate, from string) Caller {
	have := names(c)
	listed := func(list []string) bool {
		return slices.ContainsFunc(list, func(name string) bool { return slices.Contains(have, name) })
	}
	out := Caller{Name: have[0], From: from}
	if c.Subject.CommonName == "" && len(have) > 1 {
		out.Name = have[1]
	}
	switch {
	case listed(t.Operators):
		out.Role = Operator
	case listed(t.Readers):
		out.Role = ReadOnly
	}
	return out
}

// certificates are the files of the TCP listener, read again when they change,
// so that they can be renewed under a running node.
type certificates struct {
	files TCP
	log   *slog.Logger

	mu     sync.Mutex
	stamps [3]stamp
	config *tls.Config
}

// stamp tells one content of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func newCertificates(files TCP, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log}
	var err error
	if c.stamps, err = c.look(); err == nil {
		c.config, err = c.load()
	}
	return c, err
}

func (c *certificates) look() (stamps [3]stamp, err error) {
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (c *certificates) load() (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", c.files.Cert, c.files.Key, err)
	}
	authorities, err := loadPool(c.files.ClientCA)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{own}, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
	}, nil
}

func loadPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return pool, nil
}

// current is the configuration of the next handshake. Files that cannot be used
// leave it as it was.
func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.look()
	if err == nil && stamps == c.stamps {
		return c.config, nil
	}
	var next *tls.Config
	if err == nil {
		c.stamps = stamps // what is wrong with them is said once
		next, err = c.load()
	}
	if err != nil {
		c.log.Error("admin API: changed certificates cannot be used; the earlier ones stay", "error", err)
		return c.config, nil
	}
	c.config = next
	c.log.Info("admin API: certificates read again", "certificate", c.files.Cert)
	return next, nil
}

// server is the configuration of the listener.
func (c *certificates) server() *tls.Config {
	return &tls.Config{GetConfigForClient: c.current, MinVersion: tls.VersionTLS13}
}

// ErrNotMutual says that the API is to be on TCP without both ends showing
// certificates.
var ErrNotMutual = errors.New("the admin API on TCP needs a certificate, its key, and the authority of clients' certificates")

// check refuses a listener that would let in whoever comes.
func (t *TCP) check() error {
	if t.Cert == "" || t.Key == "" || t.ClientCA == "" {
		return ErrNotMutual
	}
	for _, name := range slices.Concat(t.Operators, t.Readers) {
		kind, rest, ok := strings.Cut(name, ":")
		if !ok || rest == "" || !slices.Contains([]string{"cn", "ou", "dns", "email", "uri", "ip"}, kind) {
			return fmt.Errorf("%q names nobody: write cn:, ou:, dns:, email:, uri: or ip: and the name in the certificate", name)
		}
	}
	return nil
}
