// Package report is what the nodes of Fairlead tell each other of their
// synchronisation with Kubernetes, and what follows from all of it: whether an
// object is in force on all nodes, and who can write.
package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"fairlead/k8ssync/kube"
)

// Report is what one node tells. It is small however many objects there are: that
// a node has put an object in force follows from how far it has come.
type Report struct {
	// Connected says that the API server answers this node.
	Connected bool `json:"connected"`
	// Synced says that the node has seen all objects since it started.
	Synced bool `json:"synced"`
	// Since is when Connected became what it is, in seconds.
	Since time.Time `json:"since,omitzero"`
	// Error says why the node is not connected.
	Error string `json:"error,omitempty"`
	// Services is a resourceVersion: whatever Kubernetes has said of Services up
	// to it is in force on this node, except what it has refused.
	Services string `json:"services,omitempty"`
	// Gateways is the same for Gateways.
	Gateways string `json:"gateways,omitempty"`
	// Groups is how many are in force.
	Groups int `json:"groups"`
	// Refused are the groups that could not be put in force, and why. An earlier
	// version of such a group may be in force.
	Refused map[string]string `json:"refused,omitempty"`
	// MoreRefused is how many of them there was no room for.
	MoreRefused int `json:"more_refused,omitempty"`
}

// What a report has room for. Nodes send it to all others.
const (
	MaxRefused = 32
	MaxReason  = 200 // bytes, of a reason or an error
	maxBytes   = 64 << 10
)

// Encode is the report as nodes send it, cut to what there is room for.
func (r Report) Encode() []byte {
	r.Error = cut(r.Error)
	r.Since = r.Since.UTC().Truncate(time.Second)
	if len(r.Refused) > 0 {
		names := make([]string, 0, len(r.Refused))
		for name := range r.Refused {
			names = append(names, name)
		}
		slices.Sort(names)
		if len(names) > MaxRefused {
			r.MoreRefused += len(names) - MaxRefused
			names = names[:MaxRefused]
		}
		refused := make(map[string]string, len(names))
		for _, name := range names {
			refused[name] = cut(r.Refused[name])
		}
		r.Refused = refused
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("report: %v", err)) // of strings, numbers and a time of this century there is none
	}
	return b
}

// Decode reads a report of another node. Fields that are not known are those of a
// newer version and left alone.
func Decode(b []byte) (Report, error) {
	if len(b) > maxBytes {
		return Report{}, fmt.Errorf("report of a node: %d bytes, at most %d are possible", len(b), maxBytes)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return Report{}, fmt.Errorf("report of a node: %w", err)
	}
	for _, v := range []string{r.Services, r.Gateways} {
		if v == "" {
			continue
		}
		if _, err := resourceversion.CompareResourceVersion(v, v); err != nil {
			return Report{}, fmt.Errorf("report of a node: %w", err)
		}
	}
	return r, nil
}

// through is how far the node has come with objects of a kind.
func (r *Report) through(kind kube.Kind) string {
	if kind == kube.Gateway {
		return r.Gateways
	}
	return r.Services
}

// Reached reports whether through, a resourceVersion, is version or a later one.
// What is not known has not been reached.
func Reached(through, version string) bool {
	if through == "" || version == "" {
		return false
	}
	c, err := resourceversion.CompareResourceVersion(through, version)
	return err == nil && c >= 0
}

// Later is the later of two resourceVersions of objects of one kind; "" is
// earlier than any.
func Later(a, b string) string {
	if a == "" || Reached(b, a) {
		return b
	}
	return a
}

func cut(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= MaxReason {
		return s
	}
	return strings.ToValidUTF8(s[:MaxReason-len("...")], "") + "..."
}

// refusedReason is why the node has refused the object; one that has several
// groups, such as a Gateway, is found by what their names begin with.
func refusedReason(r *Report, key kube.Key) (string, bool) {
	name := key.Group()
	if reason, is := r.Refused[name]; is {
		return reason, true
	}
	first, why := "", ""
	for refused, reason := range r.Refused {
		if part, is := strings.CutPrefix(refused, name+"/"); is && (first == "" || part < first) {
			first, why = part, reason
		}
	}
	switch first {
	case "":
		return "", false
	case "ipv4":
		why = "IPv4: " + why
	case "ipv6":
		why = "IPv6: " + why
	}
	return why, true
}

// RefusedOf is the Refused of a report, from what a kube.Sink has refused.
func RefusedOf(refused map[string]error) map[string]string {
	if len(refused) == 0 {
		return nil
	}
	out := make(map[string]string, len(refused))
	for name, err := range refused {
		out[name] = err.Error()
	}
	return out
}
