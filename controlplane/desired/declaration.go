package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"fairlead/controlplane/model"
)

// The sources that operators speak through. Others, such as a Kubernetes
// cluster, have names of their own.
const (
	// SourceFile is the node's configuration file. It alone declares what there
	// is one of: tunnel settings, limits and the hash seed.
	SourceFile = "file"
	SourceAPI  = "api" // what operators send to the admin API
	// SourceCluster is what the files of nodes of a cluster declare of what is the
	// same on all of them. There, SourceFile is the rest of the node's own file.
	SourceCluster = "cluster"
)

// Document is the text of a declaration as its parser has read it: it knows
// where in the text each object is.
type Document interface {
	// Locate words what the model has found, by the indexes of the declaration's
	// own State, with the place of each in the text.
	Locate(findings []*model.Error) error
}

// Declaration is all that one source wants. It is never changed.
type Declaration struct {
	Source   string
	Name     string   // of the text in messages, such as a file's path
	Text     []byte   // what State was read from; nil when there is no text
	Document Document // of the text; nil when there is none
	State    *model.State

	digest string
	json   []byte // of State, when there is no text
}

// Parser reads a declaration's text again, after a restart or a rollback.
type Parser func(source, name string, text []byte) (*Declaration, error)

// seal works out the declaration's digest, by which it is stored.
func (d *Declaration) seal() error {
	if d.digest != "" {
		return nil
	}
	content := d.Text
	if content == nil {
		var err error
		if d.json, err = json.Marshal(d.State); err != nil {
			return fmt.Errorf("declaration of source %q: %w", d.Source, err)
		}
		content = d.json
	}
	d.digest = digestOf(content)
	return nil
}

// content is what is stored.
func (d *Declaration) content() []byte {
	if d.Text != nil {
		return d.Text
	}
	return d.json
}

func (d *Declaration) ref() Ref {
	return Ref{Digest: d.digest, Name: d.Name, Text: d.Text != nil}
}

// digestOf is the SHA-256 sum of a declaration's content in hexadecimal digits.
func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// Ref is which declaration a version has of a source.
type Ref struct {
	Digest string `json:"digest"`         // SHA-256 of its content
	Name   string `json:"name,omitempty"` // of its text
	Text   bool   `json:"text,omitempty"` // it is stored as text, otherwise as a State in JSON
	// Said is the digest of what the source itself said last. It differs from
	// Digest while a rollback holds against the source.
	Said string `json:"said,omitempty"`
}
