package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// shake connects two nodes and says what each of them thinks of it.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	b, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("."))
		}
		if err == nil {
			_, err = s.Read(make([]byte, 1))
		}
		a.Close()
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	if clientErr == nil {
		_, clientErr = c.Write([]byte("."))
	}
	b.Close()
	return <-done, clientErr
}

func TestHandshakes(t *testing.T) {
	key := Generate()
	a, b := node(t, "a", key), node(t, "b", key)
	stranger := node(t, "b", Generate())
	revoked := node(t, "r", key)
	a.SetRevoked([]ed25519.PublicKey{revoked.PublicKey()})
	old := b.ClientTLS("a")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	nobody := b.ClientTLS("a")
	nobody.Certificates = nil
	for _, c := range []struct {
		name           string
		client         *tls.Config
		server, caller string // what is part of their errors
	}{
		{"two of a cluster", b.ClientTLS("a"), "", ""},
		{"whoever is there", b.ClientTLS(""), "", ""},
		{"another was to be there", b.ClientTLS("c"), "bad certificate", `node "a" is there in place of node "c"`},
		{"another cluster", stranger.ClientTLS("a"), "bad certificate", `not admitted to this cluster: the cluster key does not vouch for the certificate of "a"`},
		{"a revoked node", revoked.ClientTLS("a"), "the node's key has been revoked", "bad certificate"},
		{"an old version of TLS", old, "tls: ", "tls: "},
		{"nobody", nobody, "client didn't provide a certificate", "certificate required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := shake(t, a.ServerTLS(), c.client)
			for who, x := range map[string]struct {
				err  error
				want string
			}{"server": {server, c.server}, "client": {client, c.caller}} {
				if (x.err == nil) != (x.want == "") || x.err != nil && !strings.Contains(x.err.Error(), x.want) {
					t.Errorf("%s: %v, want %q", who, x.err, x.want)
				}
			}
		})
	}
	// A server of this cluster refuses a client of another one, too, when the
	// client does not look.
	blind := stranger.ClientTLS("a")
	blind.VerifyConnection = nil
	if server, _ := shake(t, a.ServerTLS(), blind); !errors.Is(server, ErrNotAdmitted) {
		t.Errorf("the server: %v", server)
	}
}
