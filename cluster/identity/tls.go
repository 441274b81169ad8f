package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxCertificate is the longest certificate that is looked at, in bytes; ours
// have some 400.
const maxCertificate = 2048

// ServerTLS is how a node takes connections of others: TLS 1.3 with those that
// this cluster's key vouches for. No session is resumed: who they are is
// verified each time.
func (i *Identity) ServerTLS() *tls.Config {
	c := i.tls()
	c.ClientAuth = tls.RequireAnyClientCert // verified by VerifyConnection
	c.VerifyConnection = func(s tls.ConnectionState) error {
		_, _, err := i.PeerOf(s)
		return err
	}
	return c
}

// ClientTLS is how a node connects to the node of that name, or with "" to
// whichever node of the cluster is there.
func (i *Identity) ClientTLS(name string) *tls.Config {
	c := i.tls()
	c.InsecureSkipVerify = true // the host name does not matter: VerifyConnection knows whom it wants
	c.VerifyConnection = func(s tls.ConnectionState) error {
		got, _, err := i.PeerOf(s)
		if err == nil && name != "" && got != name {
			err = &WrongNodeError{Want: name, Got: got}
		}
		return err
	}
	return c
}

func (i *Identity) tls() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{i.certificate}, PrivateKey: i.key}},
		SessionTicketsDisabled: true,
	}
}

// PeerOf is who is at the other end of a connection, as its certificate proves.
func (i *Identity) PeerOf(s tls.ConnectionState) (string, ed25519.PublicKey, error) {
	if len(s.PeerCertificates) != 1 || len(s.PeerCertificates[0].Raw) > maxCertificate {
		return "", nil, fmt.Errorf("%w: a node shows one certificate", ErrNotAdmitted)
	}
	return i.VerifyCertificate(s.PeerCertificates[0])
}

// WrongNodeError says that another node is there than the one that was to be.
type WrongNodeError struct{ Want, Got string }

func (e *WrongNodeError) Error() string {
	return fmt.Sprintf("node %q is there in place of node %q", e.Got, e.Want)
}

// parseLeaf reads a certificate of ours.
func parseLeaf(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, errors.New("the certificate is too long")
	}
	return x509.ParseCertificate(der)
}
