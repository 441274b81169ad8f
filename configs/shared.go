package configs

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"

	"fairlead/controlplane/model"
)

// sharedTables are the tables of what all nodes of a cluster have the same.
var sharedTables = []string{"service", "pool", "vip", "timeouts"}

// Shared is what the document declares of what all nodes of a cluster have the
// same: services, pools and VIPs, with [timeouts] for these services, in TOML.
// Documents that declare the same have the same text. It is nil when there is
// none of it.
func (d *Document) Shared() ([]byte, error) {
	all, err := decode(string(d.Text))
	if err != nil {
		return nil, err
	}
	part := map[string]any{}
	for _, key := range sharedTables {
		if v, there := all[key]; there {
			part[key] = v
		}
	}
	if s := &d.Config.State; len(s.Services)+len(s.Pools)+len(s.VIPs) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	encoder := toml.NewEncoder(&out)
	encoder.Indent = ""
	if err := encoder.Encode(part); err != nil {
		return nil, fmt.Errorf("write what all nodes share: %w", err)
	}
	return out.Bytes(), nil
}

// ReadShared reads objects that all nodes of a cluster have the same: services,
// pools and VIPs, and [timeouts] for these services. Where tolerant, keys that
// this software does not know are no errors but Ignored: another node's may be
// newer.
func ReadShared(name string, data []byte, tolerant bool) (*Document, error) {
	r := &reader{hints: hintBudget, partial: true, objects: true, shared: true, tolerant: tolerant}
	d, err := r.document(name, data)
	if err != nil {
		return nil, err
	}
	s := &d.Config.State
	d.Config = &Config{State: model.State{VIPs: s.VIPs, Services: s.Services, Pools: s.Pools}}
	if len(r.ignored) > 0 {
		for _, one := range locate(name, d.src, r.ignored) {
			d.Ignored = append(d.Ignored, strings.TrimPrefix(one.Error(), name+":"))
		}
	}
	return d, nil
}
