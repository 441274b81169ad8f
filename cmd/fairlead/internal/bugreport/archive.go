// Package bugreport gathers what somebody needs who is to find out what is wrong
// with a node, in one archive of bounded size, without secrets.
package bugreport

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Bounds of a report, in bytes before compression.
const (
	MaxItem  = 4 << 20
	MaxTotal = 64 << 20
)

// Item is one file of a report.
type Item struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
	Note  string `json:"note,omitempty"` // why it is not there, or not complete
}

// Report is an archive that is being written.
type Report struct {
	Items []Item

	top   string // the folder that everything is in
	begun time.Time
	zip   *gzip.Writer
	tar   *tar.Writer
	total int
}

// New begins an archive, of which everything is in a folder.
func New(out io.Writer, folder string, now time.Time) *Report {
	zip := gzip.NewWriter(out)
	return &Report{top: folder, begun: now, zip: zip, tar: tar.NewWriter(zip)}
}

// Add adds a file, without secrets and not longer than MaxItem. What could not
// be found out is listed with its error in place of the file.
func (r *Report) Add(name string, content []byte, err error) error {
	item := Item{Name: name}
	if err != nil {
		item.Note = err.Error()
	}
	if content == nil {
		r.Items = append(r.Items, item)
		return nil
	}
	text := Redact(content[:min(len(content), MaxItem)])
	if len(content) > MaxItem || len(text) > MaxItem {
		text = text[:min(len(text), MaxItem)]
		item.Note = strings.TrimPrefix(item.Note+fmt.Sprintf("; cut after %d bytes", MaxItem), "; ")
	}
	if r.total+len(text) > MaxTotal {
		item.Note = fmt.Sprintf("left out: the report has %d bytes already", r.total)
		r.Items = append(r.Items, item)
		return nil
	}
	item.Bytes = len(text)
	r.total += len(text)
	r.Items = append(r.Items, item)
	return r.write(name, text)
}

func (r *Report) write(name string, text []byte) error {
	header := &tar.Header{Name: r.top + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: r.begun, Typeflag: tar.TypeReg}
	if err := r.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := r.tar.Write(text)
	return err
}

// Close ends the archive with a list of what is in it.
func (r *Report) Close() error {
	list, err := json.MarshalIndent(map[string]any{"time": r.begun.UTC(), "items": r.Items}, "", "  ")
	if err != nil {
		return err
	}
	if err := r.write("contents.json", append(list, '\n')); err != nil {
		return err
	}
	if err := r.tar.Close(); err != nil {
		return err
	}
	return r.zip.Close()
}
