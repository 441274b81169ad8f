package configs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"fairlead/controlplane/model"
)

// Document is a file that was read and not yet judged as a whole, because other
// sources declare objects, too: its services may use their pools. Whoever has
// put all declarations together has the model check them, and gives what it
// finds back to Locate.
type Document struct {
	Config *Config
	Text   []byte
	// Ignored are keys that this software does not know, each as line:column and
	// words, where they are no errors (ReadShared).
	Ignored []string

	name  string
	src   string
	from  *origins
	hints int
}

// ReadFile reads the node's own file as Load does, but for what only the
// declarations of all sources together show.
func ReadFile(path string) (*Document, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Read(path, data)
}

// Read is ReadFile of what is in memory; name is the file's name in messages.
func Read(name string, data []byte) (*Document, error) {
	r := &reader{hints: hintBudget, partial: true}
	d, err := r.document(name, data)
	if err != nil {
		return nil, err
	}
	if d.Config.Node.Name == "" {
		if d.Config.Node.Name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("name the node after the host: %w", err)
		}
	}
	return d, nil
}

// ReadObjects reads objects that are not of the node's own file: services,
// pools, VIPs and SNAT addresses, and [timeouts] for these services. The state
// has neither tunnel settings nor limits nor a hash seed.
func ReadObjects(name string, data []byte) (*Document, error) {
	r := &reader{hints: hintBudget, partial: true, objects: true}
	d, err := r.document(name, data)
	if err != nil {
		return nil, err
	}
	s := &d.Config.State
	d.Config = &Config{State: model.State{VIPs: s.VIPs, Services: s.Services, Pools: s.Pools, SNATs: s.SNATs}}
	return d, nil
}

func (r *reader) document(name string, data []byte) (*Document, error) {
	cfg, err := r.parse(name, data)
	if err != nil {
		return nil, err
	}
	return &Document{Config: cfg, Text: data, name: name, src: stripBOM(string(data)), from: r.origins, hints: r.hints}, nil
}

// Locate gives findings about the document's own state their place. The error
// is Errors.
func (d *Document) Locate(findings []*model.Error) error {
	r := &reader{hints: d.hints}
	r.place(findings, &d.Config.State, d.from)
	if len(r.found) == 0 {
		return nil
	}
	return locate(d.name, d.src, r.found)
}

// objectTables are the tables that objects are sent in.
var objectTables = []string{"service", "pool", "vip", "snat", "timeouts"}

// onlyObjects refuses the tables of the node's own file.
func (r *reader) onlyObjects(root *table) {
	allowed, words := objectTables, "only services, pools, VIPs, SNAT addresses and timeouts can be sent"
	if r.shared {
		allowed, words = sharedTables, "only services, pools, VIPs and timeouts are the same on all nodes of a cluster"
	}
	for _, key := range fileTables() {
		if _, there := root.data[key]; !there || slices.Contains(allowed, key) {
			continue
		}
		at := root.position()
		if n := root.at.child(key); n != nil {
			at = n.key
		}
		r.report(at, "%q belongs to the node's own file; %s", key, words)
		delete(root.data, key)
	}
}

// fileTables are the top-level tables of the node's file, in order.
func fileTables() []string {
	var tables []string
	r := &reader{known: func(table, key string) {
		if table == "" && !slices.Contains(tables, key) {
			tables = append(tables, key)
		}
	}}
	r.config(&table{r: r})
	slices.Sort(tables)
	return tables
}

// unknownPool reports a service's pool that no source has as one that is not in
// the file: the words are those of a file on its own.
func (r *reader) unknownPool(e *model.Error, s *model.State, t *table) bool {
	if e.Kind != model.KindService || e.Field != "pool" || !strings.Contains(e.Message, "there is no pool ") {
		return false
	}
	var names []string
	for i := range s.Pools {
		names = append(names, s.Pools[i].Name)
	}
	pool := s.Services[e.Index].Pool
	r.report(t.valueAt("pool"), "pool: no [[pool]] has the name %q%s", pool, r.suggest(pool, names, `"%s"`))
	return true
}

// errorsOf are findings of the model.
func errorsOf(errs []error) (findings []*model.Error, other []error) {
	for _, err := range errs {
		var e *model.Error
		if errors.As(err, &e) {
			findings = append(findings, e)
		} else {
			other = append(other, err)
		}
	}
	return findings, other
}
