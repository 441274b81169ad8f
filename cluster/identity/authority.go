package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ErrNotAdmitted says that the cluster's authority does not vouch for a key.
var ErrNotAdmitted = errors.New("not admitted to this cluster")

// Certificates hold for ever and from long ago: no node is kept out because its
// clock is wrong. What ends them is a new cluster key, or a revocation.
var (
	validFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // RFC 5280 section 4.1.2.5: no end
	validNow   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)      // what certificates are verified at
)

// ProofSize is the length of a proof, in bytes.
const ProofSize = 1 + ed25519.PublicKeySize + ed25519.SignatureSize

const proofVersion = 1

// proofLabel keeps what the authority signs as a proof apart from all else that
// it signs: certificates begin with another byte.
const proofLabel = "fairlead node proof 1\x00"

// authority is who vouches for nodes: its public key, which is derived from the
// cluster key or has been kept.
type authority struct {
	key  ed25519.PublicKey
	cert *x509.Certificate
}

// newAuthority is the same on every node that has the cluster key, to the byte:
// ed25519 signs without randomness.
func newAuthority(key ed25519.PrivateKey) (*authority, error) {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "fairlead cluster"},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return parseAuthority(der)
}

func parseAuthority(der []byte) (*authority, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok || !cert.IsCA {
		return nil, errors.New("not the certificate of a cluster's authority")
	}
	return &authority{key, cert}, nil
}

// certify makes the certificate of a node.
func (a *authority) certify(admission ed25519.PrivateKey, name string, key ed25519.PublicKey) ([]byte, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive and of full length, RFC 5280 section 4.1.2.2
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, a.cert, key, admission)
}

// checkCertificate verifies that the authority has made a node's certificate.
func (a *authority) checkCertificate(leaf *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: validNow,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// nodeOf is the name and the key that a certificate is about.
func nodeOf(leaf *x509.Certificate) (string, ed25519.PublicKey, error) {
	key, ok := leaf.PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", nil, fmt.Errorf("%w: the certificate is not for an ed25519 key", ErrNotAdmitted)
	}
	name := leaf.Subject.CommonName
	if leaf.IsCA || CheckName(name) != nil || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != name {
		return "", nil, fmt.Errorf("%w: the certificate is not a node's", ErrNotAdmitted)
	}
	return name, key, nil
}

// prove makes the proof that a key is the node's.
func prove(admission ed25519.PrivateKey, name string, key ed25519.PublicKey) []byte {
	proof := append([]byte{proofVersion}, key...)
	return append(proof, ed25519.Sign(admission, proofText(name, key))...)
}

func proofText(name string, key ed25519.PublicKey) []byte {
	return append(append([]byte(proofLabel), key...), name...)
}

// splitProof takes a proof apart without verifying it.
func splitProof(proof []byte) (key ed25519.PublicKey, signature []byte, err error) {
	if len(proof) != ProofSize || proof[0] != proofVersion {
		return nil, nil, fmt.Errorf("%w: this is no proof", ErrNotAdmitted)
	}
	return bytes.Clone(proof[1 : 1+ed25519.PublicKeySize]), proof[1+ed25519.PublicKeySize:], nil
}

// checkProof verifies that the authority has made a proof.
func (a *authority) checkProof(name string, key ed25519.PublicKey, signature []byte) bool {
	return ed25519.Verify(a.key, proofText(name, key), signature)
}

// CheckName says what is wrong with the name of a node: names are 1 to 63
// letters, digits, dots, hyphens and underscores, and begin with a letter or a
// digit.
func CheckName(name string) error {
	if name == "" {
		return errors.New("the node has no name")
	}
	if len(name) > 63 {
		return fmt.Errorf("node name %q: longer than 63 characters", name)
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("node name %q: a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit", name)
		}
	}
	return nil
}
