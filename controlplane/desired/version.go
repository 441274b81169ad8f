package desired

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// Version is what was desired from one change to the next: which declaration
// each source had, and what operators had set of backends. It is never changed,
// but for what a confirmation takes out of it.
type Version struct {
	Number   uint64         `json:"number"`
	Time     time.Time      `json:"time"`
	Author   Author         `json:"author"`
	Comment  string         `json:"comment,omitempty"`
	Summary  Summary        `json:"summary"` // against the version before
	Sources  map[string]Ref `json:"sources"`
	Settings []Setting      `json:"settings,omitempty"`
	Pending  *Pending       `json:"pending,omitempty"`
}

// Author is who made a change.
type Author struct {
	Source string `json:"source"`         // whose declaration it was, or "operator"
	User   string `json:"user,omitempty"` // the peer of the admin API
	Node   string `json:"node,omitempty"` // of a cluster, that it was made on; empty: this one
}

// Pending is a change that is undone unless it is confirmed in time. Versions
// that come meanwhile carry it on.
type Pending struct {
	Version uint64    `json:"version"` // that the change made
	Until   time.Time `json:"until"`
	Source  string    `json:"source"`            // whose declaration it was
	Restore *Ref      `json:"restore,omitempty"` // that it had before; nil: none
}

// Setting is a model.BackendSetting as it is stored.
type Setting struct {
	Pool     string           `json:"pool"`
	Endpoint netip.AddrPort   `json:"endpoint"`
	State    model.AdminState `json:"state"`
	Deadline *time.Time       `json:"deadline,omitempty"`
	Weight   *int             `json:"weight,omitempty"`
}

func (s *Setting) key() model.BackendKey { return model.BackendKey{Pool: s.Pool, Endpoint: s.Endpoint} }

// model is the setting as the rest of the control plane knows it.
func (s *Setting) model() model.BackendSetting {
	out := model.BackendSetting{BackendKey: s.key(), State: s.State, Weight: s.Weight}
	if s.Deadline != nil {
		out.Deadline = *s.Deadline
	}
	return out
}

// BackendSettings are the version's settings, sorted by pool and endpoint.
func (v *Version) BackendSettings() []model.BackendSetting {
	out := make([]model.BackendSetting, len(v.Settings))
	for i := range v.Settings {
		out[i] = v.Settings[i].model()
	}
	return out
}

// clone is a copy that can be changed without changing the version.
func (v *Version) clone() *Version {
	out := *v
	out.Sources, out.Settings = maps.Clone(v.Sources), slices.Clone(v.Settings)
	return &out
}

// refs are the declarations that must be kept for the version.
func (v *Version) refs() []Ref {
	out := slices.Collect(maps.Values(v.Sources))
	if v.Pending != nil && v.Pending.Restore != nil {
		out = append(out, *v.Pending.Restore)
	}
	return out
}

// A version's file is one line that says what follows, and the version in JSON.
// The format number becomes another when a program that knows only this one
// could misread the file.
const (
	formatNumber = 1
	formatLine   = "fairlead-desired %d %s\n" // format, SHA-256 of the rest
)

// errNewer says that a file was written by a later release.
var errNewer = errors.New("it was written by a newer release")

func encodeVersion(v *Version) ([]byte, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("version %d: %w", v.Number, err)
	}
	body = append(body, '\n')
	return append(fmt.Appendf(nil, formatLine, formatNumber, digestOf(body)), body...), nil
}

func decodeVersion(number uint64, data []byte) (*Version, error) {
	head, body, found := bytes.Cut(data, []byte("\n"))
	var format int
	var digest string
	if _, err := fmt.Sscanf(string(head)+"\n", formatLine, &format, &digest); err != nil || !found {
		return nil, errors.New("it is no version of the desired state")
	}
	switch {
	case format > formatNumber:
		return nil, errNewer
	case digestOf(body) != digest:
		return nil, errors.New("its checksum is wrong")
	}
	v := &Version{}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, err
	}
	if v.Number != number {
		return nil, fmt.Errorf("it is version %d", v.Number)
	}
	return v, nil
}
