package apply

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"fairlead/cluster"
)

// Content is what one source declares: a document in TOML. Two contents are the
// same when their texts are.
type Content struct {
	Name string `json:"name,omitempty"` // of the text in messages, such as a file's path
	Text string `json:"text"`
}

// Digest is the SHA-256 sum of the text in hexadecimal digits.
func (c Content) Digest() string {
	sum := sha256.Sum256([]byte(c.Text))
	return hex.EncodeToString(sum[:])
}

// formatNumber becomes another when software that knows only this one would
// misunderstand a document. What may be ignored is added without that.
const formatNumber = 1

// Bounds of a document.
const (
	MaxText     = 32 << 20 // bytes of its text
	MaxDocument = 12 << 20 // bytes of it as it travels, compressed
	// keptAncestors is how many changes back it is known what a change was made of.
	keptAncestors = 32
)

// Document is the content of a source as all nodes share it, and how it came to
// be.
type Document struct {
	Format int `json:"format"`
	Content
	Origin  string    `json:"origin"` // the node that the change was made on
	User    string    `json:"user,omitempty"`
	Comment string    `json:"comment,omitempty"`
	Time    time.Time `json:"time"`
	// Ancestors are the versions of this source that the change was made in
	// knowledge of, the latest first, at most keptAncestors.
	Ancestors []cluster.Version `json:"ancestors,omitempty"`
	// Initial says that nobody has asked for it: it is what a node had that found
	// nobody who had anything. It gives way to whatever somebody has asked for.
	Initial bool `json:"initial,omitempty"`
	// Until is when the change is undone unless it is confirmed; Restore is what
	// holds from then on, nil: nothing is declared.
	Until   *time.Time `json:"until,omitempty"`
	Restore *Content   `json:"restore,omitempty"`
}

// Effective is the content that holds at a time.
func (d *Document) Effective(now time.Time) Content {
	if d.expired(now) {
		if d.Restore == nil {
			return Content{}
		}
		return *d.Restore
	}
	return d.Content
}

func (d *Document) expired(now time.Time) bool { return d.Until != nil && !now.Before(*d.Until) }

// pending is until when the change waits to be confirmed, the zero time when it
// does not.
func (d *Document) pending(now time.Time) time.Time {
	if d.Until == nil || d.expired(now) {
		return time.Time{}
	}
	return *d.Until
}

// knows reports whether the change was made in knowledge of a version.
func (d *Document) knows(v cluster.Version) bool {
	if slices.Contains(d.Ancestors, v) {
		return true
	}
	// What lies before the last that is kept was known to those that are.
	n := len(d.Ancestors)
	return n == keptAncestors && v.Compare(d.Ancestors[n-1]) < 0
}

// errNewer says that a document was written by software of a later release.
var errNewer = errors.New("it was written by newer software")

// encode is the document as it travels.
func (d *Document) encode() ([]byte, error) {
	if len(d.Text) > MaxText {
		return nil, fmt.Errorf("the document has %d bytes; nodes share at most %d", len(d.Text), MaxText)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := json.NewEncoder(z).Encode(d); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if out.Len() > MaxDocument {
		return nil, fmt.Errorf("the document has %d bytes when it is compressed; nodes share at most %d", out.Len(), MaxDocument)
	}
	return out.Bytes(), nil
}

// decode reads a document.
func decode(value []byte) (*Document, error) {
	if len(value) > MaxDocument {
		return nil, fmt.Errorf("it has %d bytes; there may be %d", len(value), MaxDocument)
	}
	d := &Document{}
	if err := unpack(value, d); err != nil {
		return nil, err
	}
	switch {
	case d.Format > formatNumber:
		return nil, fmt.Errorf("%w: format %d, this node reads up to %d", errNewer, d.Format, formatNumber)
	case d.Format < 1:
		return nil, errors.New("it has no format")
	case len(d.Ancestors) > keptAncestors:
		return nil, fmt.Errorf("it has %d ancestors; there may be %d", len(d.Ancestors), keptAncestors)
	}
	return d, nil
}

// unpack reads compressed JSON, never more than two texts of the largest size
// can be.
func unpack(value []byte, into any) error {
	z, err := gzip.NewReader(bytes.NewReader(value))
	if err != nil {
		return err
	}
	const most = 2*MaxText + MaxText/2
	in := &io.LimitedReader{R: z, N: most + 1}
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(into); err != nil {
		if in.N <= 0 {
			return fmt.Errorf("it has more than %d bytes when it is unpacked", most)
		}
		return err
	}
	return nil
}

// pack is compressed JSON.
func pack(from any) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := json.NewEncoder(z).Encode(from); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
