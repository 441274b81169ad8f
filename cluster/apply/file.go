package apply

import (
	"encoding/json"

	"fairlead/cluster"
)

// memory is what a node remembers of its own file: it publishes what its operator
// has changed in it, and never what was in it before.
type memory struct {
	Digest string          `json:"digest"` // of what the file declared when it was last looked at
	Entry  cluster.Version `json:"entry"`  // of what all shared of files then
}

func (a *Apply) memoryKey() string { return cluster.NodePrefix + a.self + "/apply" }

func (a *Apply) loadMemory() (m memory) {
	if e, there := a.cfg.Store.Get(a.memoryKey()); there {
		if err := json.Unmarshal(e.Value, &m); err != nil {
			a.log.Warn("what this node remembers of its file cannot be read", "error", err)
		}
	}
	return m
}

// remember notes that the file was looked at.
func (a *Apply) remember(file Content) {
	m := memory{Digest: file.Digest()}
	if v, known := a.known(SourceFile); known {
		m.Entry = v.entry.Version
	}
	a.keep(m)
}

// rememberEntry notes which change of what files declare this node has seen.
func (a *Apply) rememberEntry() {
	m := a.memory
	if v := a.seen[SourceFile]; v.doc != nil {
		m.Entry = v.entry.Version
	}
	if m.Digest != "" {
		a.keep(m)
	}
}

func (a *Apply) keep(m memory) {
	if m == a.memory {
		return
	}
	a.memory = m
	value, err := json.Marshal(m)
	if err == nil {
		err = a.cfg.Store.Put(a.memoryKey(), value)
	}
	if err != nil {
		a.log.Warn("this node does not remember what it has seen of its file", "error", err)
	}
}

// PublishesFile reports whether what the file declares now is to be shared: when
// it was changed since it was last looked at, or when that is asked for. A file
// that declares nothing takes nothing away unless it is asked for.
func (a *Apply) PublishesFile(file Content, asked bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return asked || file.Text != "" && a.ready && a.memory.Digest != file.Digest()
}

// FileRead notes that the node goes by its file as it is now.
func (a *Apply) FileRead(file Content, published bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.look()
	a.emptied = file.Text == "" && (a.file.Text != "" || a.emptied) && !published
	a.file = file
	if v, known := a.known(SourceFile); published || known && v.doc != nil && v.doc.Effective(a.now()).Text == file.Text {
		a.remember(file)
	}
}

// sharedFile is what all nodes have of files, and who it comes from.
func (a *Apply) sharedFile() (text, origin string) {
	v := a.seen[SourceFile]
	if v.doc == nil {
		return "", ""
	}
	return v.doc.Effective(a.now()).Text, v.doc.Origin
}
