package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Blocks of the file, in this order: the key, its certificate, the authorities'
// certificates, the proof, the first gossip key.
const (
	keyBlock         = "PRIVATE KEY" // PKCS #8, RFC 8410
	certificateBlock = "CERTIFICATE"
	proofBlock       = "FAIRLEAD NODE PROOF"
	gossipBlock      = "FAIRLEAD GOSSIP KEY"
)

// keptAside is how many damaged files are kept.
const keptAside = 10

// maxNodeFile is the longest file of an identity that is read, in bytes.
const maxNodeFile = 16 << 10

// damagedError says that what is in the file is no identity.
type damagedError struct {
	file   string
	reason error
}

func (e *damagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.file, e.reason) }
func (e *damagedError) Unwrap() error { return e.reason }

// readNode reads an identity. Errors are of the file system, or damagedError.
func readNode(file string) (*Identity, error) {
	data, err := readPrivate(file, maxNodeFile)
	if errors.Is(err, errTooLong) {
		return nil, &damagedError{file, err}
	}
	if err != nil {
		return nil, err
	}
	i, err := decodeNode(data)
	if err != nil {
		return nil, &damagedError{file, err}
	}
	return i, nil
}

func encodeNode(i *Identity) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, err
	}
	blocks := []*pem.Block{{Type: keyBlock, Bytes: key}, {Type: certificateBlock, Bytes: i.certificate}}
	for _, a := range i.authorities {
		blocks = append(blocks, &pem.Block{Type: certificateBlock, Bytes: a.cert.Raw})
	}
	blocks = append(blocks, &pem.Block{Type: proofBlock, Bytes: i.proof}, &pem.Block{Type: gossipBlock, Bytes: i.gossipKey})
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(b)...)
	}
	return out, nil
}

func decodeNode(data []byte) (*Identity, error) {
	i := &Identity{}
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("it does not end where it should")
		}
		data = rest
		if err := i.take(block); err != nil {
			return nil, err
		}
	}
	if i.gossipKey == nil {
		return nil, errors.New("it is incomplete")
	}
	leaf, err := parseLeaf(i.certificate)
	if err != nil {
		return nil, err
	}
	name, key, err := i.VerifyCertificate(leaf)
	if err != nil {
		return nil, err
	}
	proved, err := i.VerifyProof(name, i.proof)
	if err != nil {
		return nil, err
	}
	if !key.Equal(i.key.Public()) || !proved.Equal(key) {
		return nil, errors.New("its certificate and proof are those of another key")
	}
	i.name = name
	return i, nil
}

// take takes the next block. What comes last is there only if all else is.
func (i *Identity) take(block *pem.Block) error {
	switch {
	case block.Type == keyBlock && i.key == nil:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return err
		}
		var ok bool
		if i.key, ok = key.(ed25519.PrivateKey); !ok {
			return errors.New("its key is not an ed25519 key")
		}
	case block.Type == certificateBlock && i.key != nil && i.certificate == nil:
		i.certificate = block.Bytes
	case block.Type == certificateBlock && i.certificate != nil && i.proof == nil && len(i.authorities) < maxKeys:
		a, err := parseAuthority(block.Bytes)
		if err != nil {
			return err
		}
		i.authorities = append(i.authorities, a)
	case block.Type == proofBlock && len(i.authorities) > 0 && i.proof == nil:
		i.proof = block.Bytes
	case block.Type == gossipBlock && i.proof != nil && i.gossipKey == nil && len(block.Bytes) == KeySize:
		i.gossipKey = block.Bytes
	default:
		return fmt.Errorf("a block %q is where it should not be", block.Type)
	}
	return nil
}

// writeNode puts an identity in its file: it is there whole, on the medium, or
// as it was.
func writeNode(file string, i *Identity) error {
	data, err := encodeNode(i)
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = fresh.Write(data)
	if err == nil {
		err = fresh.Sync()
	}
	err = errors.Join(err, fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	if err != nil {
		os.Remove(fresh.Name()) // it has not become the file
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// putAside moves a damaged file out of the way, and says where to. Of too many,
// the last one is replaced.
func putAside(file string) (string, error) {
	to := file + ".aside"
	for n := 1; n < keptAside; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = file + ".aside." + strconv.Itoa(n)
	}
	if err := os.Rename(file, to); err != nil {
		return "", err
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return "", err
	}
	return to, nil
}
