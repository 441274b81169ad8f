package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"fairlead/controlplane/model"
)

// tlsSettings are how TLS servers of a pool are asked.
type tlsSettings struct {
	name     string // server name; empty: the address, and no SNI
	verify   bool
	caFile   string // empty: the system's authorities
	protocol string // by ALPN; empty: none

	mu       sync.Mutex // guards what follows
	pool     *x509.CertPool
	modified time.Time // of the file that the pool is from
	size     int64
}

// mostAuthorities is how large a file of authorities may be.
const mostAuthorities = 4 << 20

func newTLSSettings(c *model.Check) *tlsSettings {
	s := &tlsSettings{name: c.TLS.ServerName, verify: c.TLS.Verify, caFile: c.TLS.CAFile}
	switch c.Type {
	case model.CheckHTTPS:
		s.protocol = "http/1.1"
		if s.name == "" {
			s.name = hostOf(c.HTTP.Host)
		}
	case model.CheckGRPC:
		s.protocol = "h2"
	}
	return s
}

// hostOf is a Host header without its port and brackets.
func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return strings.Trim(s, "[]")
}

// config is the configuration for asking the server at an address.
func (s *tlsSettings) config(address string) (*tls.Config, error) {
	c := &tls.Config{ServerName: s.name, InsecureSkipVerify: !s.verify, MinVersion: tls.VersionTLS10}
	if c.ServerName == "" && s.verify {
		c.ServerName = address
	}
	if s.protocol != "" {
		c.NextProtos = []string{s.protocol}
	}
	if !s.verify || s.caFile == "" {
		return c, nil
	}
	var err error
	c.RootCAs, err = s.authorities()
	return c, own(err)
}

// authorities are the certificates of the file as it is now.
func (s *tlsSettings) authorities() (*x509.CertPool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	if s.pool != nil && info.ModTime().Equal(s.modified) && info.Size() == s.size {
		return s.pool, nil
	}
	data, err := readAtMost(s.caFile, mostAuthorities)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("ca_file: no certificate in PEM form in %s", s.caFile)
	}
	s.pool, s.modified, s.size = pool, info.ModTime(), info.Size()
	return pool, nil
}

func readAtMost(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return data, err
}

// tlsProbe succeeds when a handshake does.
type tlsProbe struct {
	dialer
	settings *tlsSettings
}

func (p *tlsProbe) try(ctx context.Context, deadline time.Time) error {
	conn, err := p.dial(ctx, "tcp", deadline)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = p.settings.handshake(conn, p.to.Addr().String())
	return err
}

// handshake makes a connection one of TLS. Its deadline stays.
func (s *tlsSettings) handshake(conn net.Conn, address string) (*tls.Conn, error) {
	config, err := s.config(address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.Handshake(); err != nil {
		return nil, tlsError(err)
	}
	return secure, nil
}

// tlsError says what a failed handshake means.
func tlsError(err error) error {
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &record):
		return errors.New("the server does not speak TLS")
	case errors.As(err, &unknown):
		return errors.New("the certificate is signed by an unknown authority")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection during the TLS handshake")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no TLS handshake in time")
	}
	return fmt.Errorf("TLS handshake: %w", plain(err, false))
}
