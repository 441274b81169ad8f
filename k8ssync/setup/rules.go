package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Rule is one thing that a node is to be allowed.
type Rule struct {
	Verb, Group, Resource, Subresource string
	Name                               string // of the one object that it is about; empty: all
	Namespaced                         bool   // only in the namespace of the nodes
}

// String is the rule as RBAC speaks of it: "patch services/status",
// "list gateways.gateway.networking.k8s.io".
func (r Rule) String() string {
	text := r.Verb + " " + r.Resource
	if r.Group != "" {
		text += "." + r.Group
	}
	if r.Subresource != "" {
		text += "/" + r.Subresource
	}
	if r.Name != "" {
		text += " " + r.Name
	}
	return text
}

// Rules are the rules of the ClusterRoles and Roles of some manifests, one by one
// and sorted.
func Rules(manifests []byte) ([]Rule, error) {
	var out []Rule
	for documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		var role rbacv1.ClusterRole // a Role has the same rules
		err := documents.Decode(&role)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("manifests of roles: %w", err)
		}
		if role.Kind != "ClusterRole" && role.Kind != "Role" {
			continue
		}
		for i := range role.Rules {
			out = append(out, single(&role.Rules[i], role.Kind == "Role")...)
		}
	}
	slices.SortFunc(out, func(a, b Rule) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(out), nil
}

// single takes a rule apart.
func single(r *rbacv1.PolicyRule, namespaced bool) (out []Rule) {
	names := r.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range r.APIGroups {
		for _, resource := range r.Resources {
			resource, sub, _ := strings.Cut(resource, "/")
			for _, verb := range r.Verbs {
				for _, name := range names {
					out = append(out, Rule{verb, group, resource, sub, name, namespaced})
				}
			}
		}
	}
	return out
}
