package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func node(t testing.TB, name string, keys ...ClusterKey) *Identity {
	t.Helper()
	i, err := New(name, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestSignatures(t *testing.T) {
	key := Generate()
	a, b := node(t, "a", key), node(t, "b", key)
	stranger := node(t, "a", Generate())
	message := []byte("pool web: 3 backends")
	signature := a.Sign("entry", message)
	if err := b.Verify("a", a.Proof(), "entry", message, signature); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		node         string
		proof        []byte
		context      string
		message      string
		signature    []byte
		want         string
		notBeenLetIn bool
	}{
		{"another context", "a", a.Proof(), "vote", string(message), signature, `the signature is not of node "a"`, false},
		{"context and message shifted", "a", a.Proof(), "entr", "y" + string(message), signature, `the signature is not of node "a"`, false},
		{"another message", "a", a.Proof(), "entry", "pool web: 2 backends", signature, `the signature is not of node "a"`, false},
		{"another node's proof", "b", b.Proof(), "entry", string(message), signature, `the signature is not of node "b"`, false},
		{"a signature cut short", "a", a.Proof(), "entry", string(message), signature[:63], `the signature is not of node "a"`, false},
		{"no signature", "a", a.Proof(), "entry", string(message), nil, `the signature is not of node "a"`, false},
		{"another name", "b", a.Proof(), "entry", string(message), signature, `not admitted to this cluster: the cluster key does not vouch for the key ` + Fingerprint(a.PublicKey()) + ` of "b"`, true},
		{"another cluster", "a", stranger.Proof(), "entry", string(message), stranger.Sign("entry", message), `not admitted to this cluster: the cluster key does not vouch for the key ` + Fingerprint(stranger.PublicKey()) + ` of "a"`, true},
		{"a proof cut short", "a", a.Proof()[:96], "entry", string(message), signature, "not admitted to this cluster: this is no proof", true},
		{"a proof of another version", "a", append([]byte{2}, a.Proof()[1:]...), "entry", string(message), signature, "not admitted to this cluster: this is no proof", true},
		{"no proof", "a", nil, "entry", string(message), signature, "not admitted to this cluster: this is no proof", true},
		{"no name", "", a.Proof(), "entry", string(message), signature, "not admitted to this cluster: the node has no name", true},
	} {
		err := b.Verify(c.node, c.proof, c.context, []byte(c.message), c.signature)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if errors.Is(err, ErrNotAdmitted) != c.notBeenLetIn {
			t.Errorf("%s: ErrNotAdmitted: %v", c.name, err)
		}
	}
	if len(a.Proof()) != ProofSize || ProofSize > 150 {
		t.Errorf("a proof has %d bytes", len(a.Proof()))
	}
}

// TestProofsAreRemembered says that a proof is verified once, and that nothing
// but that very proof of that very name is taken for it after that.
func TestProofsAreRemembered(t *testing.T) {
	key := Generate()
	a, b := node(t, "a", key), node(t, "b", key)
	for range 2 {
		if _, err := b.VerifyProof("a", a.Proof()); err != nil {
			t.Fatal(err)
		}
	}
	for n := range a.Proof() {
		changed := a.Proof()
		changed[n] ^= 1
		if _, err := b.VerifyProof("a", changed); err == nil {
			t.Fatalf("a proof with byte %d changed is taken", n)
		}
	}
	if _, err := b.VerifyProof("aa", a.Proof()); err == nil {
		t.Fatal("a proof is taken for another name")
	}
	if len(b.proved) != 1 {
		t.Errorf("%d are remembered", len(b.proved))
	}
	for n := range maxProved + 10 {
		b.remember(proved{name: strings.Repeat("x", n%60), proof: [ProofSize]byte{byte(n), byte(n >> 8)}})
	}
	if len(b.proved) > maxProved {
		t.Errorf("%d are remembered", len(b.proved))
	}
}

func TestRevocation(t *testing.T) {
	key := Generate()
	a, b := node(t, "a", key), node(t, "b", key)
	leaf, err := x509.ParseCertificate(a.certificate)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.VerifyProof("a", a.Proof()); err != nil {
		t.Fatal(err)
	}
	b.SetRevoked([]ed25519.PublicKey{a.PublicKey(), nil})
	want := "the node's key has been revoked: " + Fingerprint(a.PublicKey())
	if _, err := b.VerifyProof("a", a.Proof()); !errors.Is(err, ErrRevoked) || err.Error() != want {
		t.Errorf("its proof: %v", err)
	}
	if _, _, err := b.VerifyCertificate(leaf); !errors.Is(err, ErrRevoked) {
		t.Errorf("its certificate: %v", err)
	}
	if b.Revoked(b.PublicKey()) || !b.Revoked(a.PublicKey()) {
		t.Error("the wrong key is revoked")
	}
	b.SetRevoked(nil)
	if _, err := b.VerifyProof("a", a.Proof()); err != nil {
		t.Errorf("after it has been taken back: %v", err)
	}
}

// TestChangeOfClusterKey goes the three steps of a change: both keys are taken,
// the new one is used, the old one is gone. Nodes that are one step apart take
// each other.
func TestChangeOfClusterKey(t *testing.T) {
	k1, k2 := Generate(), Generate()
	steps := []*Identity{
		node(t, "n", k1),
		node(t, "n", k1, k2),
		node(t, "n", k2, k1),
		node(t, "n", k2),
	}
	for x, from := range steps {
		for y, to := range steps {
			_, err := to.VerifyProof("n", from.Proof())
			if near := x-y >= -1 && x-y <= 1; near && err != nil {
				t.Errorf("step %d to step %d: %v", x, y, err)
			}
		}
	}
	if _, err := steps[3].VerifyProof("n", steps[0].Proof()); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("the old key is taken after its removal: %v", err)
	}
	if !steps[2].Outdated("n", steps[1].Proof()) || steps[2].Outdated("n", steps[2].Proof()) || steps[3].Outdated("n", steps[0].Proof()) {
		t.Error("what is outdated is not")
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "lb-1.example.net", "LB_1", "9", strings.Repeat("n", 63)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{
		"":                      "the node has no name",
		"a/b":                   `node name "a/b": a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit`,
		".a":                    `node name ".a": a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit`,
		"ä":                     `node name "ä": a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit`,
		"a\x00":                 `node name "a\x00": a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit`,
		strings.Repeat("n", 64): `node name "` + strings.Repeat("n", 64) + `": longer than 63 characters`,
	} {
		if err := CheckName(name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := New(name, Generate()); err == nil {
			t.Errorf("a node %q is made", name)
		}
	}
}

// TestCertificates shows certificates that look like a node's and are none.
func TestCertificates(t *testing.T) {
	key := Generate()
	me := node(t, "me", key)
	ca, admission := me.authorities[0], key.admissionKey()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	self := parse(t, me.certificate)
	make509 := func(change func(*x509.Certificate), public any, signer ed25519.PrivateKey) *x509.Certificate {
		t.Helper()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "n"}, DNSNames: []string{"n"},
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		}
		change(template)
		parent := ca.cert
		if signer.Equal(me.key) {
			parent = self
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, der)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	same := func(*x509.Certificate) {}
	for _, c := range []struct {
		name string
		leaf *x509.Certificate
		want string
	}{
		{"not a node's name", make509(func(c *x509.Certificate) { c.Subject.CommonName = "n/m" }, public, admission), "not admitted to this cluster: the certificate is not a node's"},
		{"two names", make509(func(c *x509.Certificate) { c.DNSNames = []string{"n", "m"} }, public, admission), "not admitted to this cluster: the certificate is not a node's"},
		{"names that differ", make509(func(c *x509.Certificate) { c.DNSNames = []string{"m"} }, public, admission), "not admitted to this cluster: the certificate is not a node's"},
		{"an authority", make509(func(c *x509.Certificate) { c.IsCA = true }, public, admission), "not admitted to this cluster: the certificate is not a node's"},
		{"another kind of key", make509(same, ec.Public(), admission), "not admitted to this cluster: the certificate is not for an ed25519 key"},
		{"the authority itself", ca.cert, "not admitted to this cluster: the certificate is not a node's"},
		{"signed by another node", make509(same, public, me.key), `not admitted to this cluster: the cluster key does not vouch for the certificate of "n"`},
	} {
		if _, _, err := me.VerifyCertificate(c.leaf); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	name, got, err := me.VerifyCertificate(parse(t, me.certificate))
	if err != nil || name != "me" || !bytes.Equal(got, me.PublicKey()) {
		t.Errorf("ours: %q %v", name, err)
	}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func FuzzVerifyProof(f *testing.F) {
	key, err := ParseKey(fixedKey)
	if err != nil {
		f.Fatal(err)
	}
	me := node(f, "me", key)
	f.Add("me", me.Proof())
	f.Add("you", me.Proof())
	f.Add("me", me.Proof()[:50])
	f.Fuzz(func(t *testing.T, name string, proof []byte) {
		// Processes that fuzz together each have a key of their own for "me".
		if _, err := me.VerifyProof(name, proof); err == nil && name != "me" {
			t.Errorf("forged: %q %x", name, proof)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	key := Generate()
	me := node(b, "me", key)
	proof, message := me.Proof(), make([]byte, 500)
	signature := me.Sign("entry", message)
	for b.Loop() {
		if err := me.Verify("me", proof, "entry", message, signature); err != nil {
			b.Fatal(err)
		}
	}
}
